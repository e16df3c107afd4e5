"""The README's Python runs as it stands, and what it says of the command line is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import fake_batch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"<!-- executed by tests/test_readme.py -->\n```python\n(.*?)```", README, re.DOTALL)


def test_the_sweep_example_runs_as_a_script(tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLES[0])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/corridor/return.png").stat().st_size > 10_000
    from jaxrl import results

    curves = results.curves(tmp_path / "results/corridor")
    assert dict(curves["return"].sizes) == {"coef": 3, "seed": 4, "iteration": 20}
    assert np.isfinite(curves["eval_return"].isel(iteration=-1)).all()


def test_the_bonus_of_the_readme_keeps_what_it_says():
    scope: dict = {}
    exec(EXAMPLES[1], scope)
    reward = scope["surprise"](0.5)
    batch = fake_batch(jax.random.key(0), 6, 3)
    state, memory = reward.init(jax.random.key(1), jax.tree.map(lambda x: x[0], batch))
    _, bonus, trace = reward.label(state, memory, batch)
    np.testing.assert_allclose(bonus, (batch.next_obs**2).mean(-1), rtol=1e-5)
    after, metrics = reward.update(jax.random.key(2), state, memory, batch, trace)
    np.testing.assert_allclose(after, 0.5 * batch.next_obs.mean((0, 1)), rtol=1e-5)
    assert metrics["surprise/shift"] == jnp.abs(batch.next_obs.mean((0, 1))).mean()


@pytest.mark.parametrize("command", re.findall(r"^jaxrl (\w+)", README, re.MULTILINE))
def test_every_command_of_the_readme_exists(command):
    done = subprocess.run([sys.executable, "-m", "jaxrl", command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_toml_of_the_readme_is_a_spec(tmp_path):
    from jaxrl.spec.spec import load_toml
    from jaxrl.sweep.plan import lanes, programs

    (tmp_path / "spec.toml").write_text(re.search(r"```toml\n(.*?)```", README, re.DOTALL).group(1))
    made = lanes(load_toml(tmp_path / "spec.toml"))
    # none: 1 cell; count: 3 coefficients; the product: 3 x 2
    assert (len(made), len(programs(made))) == (8 * (1 + 3 + 6), 3)
