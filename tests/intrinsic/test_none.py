"""The control: it pays nothing, keeps nothing, learns nothing."""

import jax
import numpy as np
from batches import example, fake_batch
from references import roll

from jaxrl.intrinsic.none import none


def test_none_pays_zero_and_keeps_nothing():
    batch = fake_batch(jax.random.key(0), 8, 3)
    assert np.abs(batch.reward).min() > 0
    (bonus,), states, (metrics,) = roll(none(), [batch], example(3))
    assert bonus.shape == (8, 3) and bonus.dtype == np.float32 and (bonus == 0).all()
    assert states == [(), ()] and metrics == {}
    assert none().init(jax.random.key(0), example(3)) == ((), ())
