"""The diabolical combination lock: one code word opens it, every mistake is paid for and final."""

from math import ceil, log2

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import hadamard

from jaxrl.envs.tabular.mdp import Outcomes, Tabular, whole
from jaxrl.keys import key_of
from jaxrl.types import Array

_DEAD = 2


@flax.struct.dataclass
class CombinationLockParams:
    length: Array | int = 10  # actions of the code word, H in the literature
    mdp_seed: Array | int = 0  # which code word
    swap: Array | float = 0.5  # chance that a good action changes the chain
    decoy: Array | float = 0.1  # paid with `decoy_chance` for leaving the live chains
    decoy_chance: Array | float = 0.5
    step_reward: Array | float = 0.0  # for each good action before the last: 0.1 is dense, -1 / (length - 1) a cost
    noise: Array | float = 0.1  # deviation of the Gaussian noise of `observation="hadamard"`


class CombinationLock(Tabular):
    """Misra et al. (2020), as the code published with BRIEE (Zhang et al. 2022) has it.

    At each of ``length`` times the agent is in one of two live chains or a dead one. In a live chain one action, drawn
    for each chain and time from ``params.mdp_seed``, is good: it stays alive, in the other chain with probability
    ``swap``, and pays 1 at the last time. All others lead to the dead chain, for good, and pay ``decoy`` half of the
    time. The first chain is drawn evenly; after ``length`` actions the episode terminates. A random policy opens the
    lock with probability num_actions ** -length.

    Published: 10 actions and length 100; the defaults here are 4 and 10. States are the 3 * capacity - 1 that can be
    acted in (nothing is dead at the start) and one end. ``params.length`` is traced up to ``capacity``, as in a chain.

    observation:
        "one_hot", "index"  the state.
        "hadamard"  one-hot of the chain and of the time 0 .. capacity, with Gaussian noise, filled up to a power of two
            and rotated by Sylvester's Hadamard matrix (entries 1 and -1); float32 ``[2 ** ceil(log2(capacity + 4))]``.
        "bernoulli"  the same one-hots and ``capacity`` fair coins; float32 ``[2 * capacity + 4]``.

    Ours: the end is one state, shown at time ``capacity`` without a chain.
    """

    num_terminal = 1
    observations = ("one_hot", "index", "hadamard", "bernoulli")

    def __init__(self, capacity: int = 10, num_actions: int = 4, observation: str = "one_hot"):
        self.capacity = whole("length, or the capacity for lengths,", capacity, 1)
        num_actions = whole("num_actions", num_actions, 2)
        super().__init__(3 * self.capacity - 1, num_actions, self.capacity, observation)
        self.default_params = CombinationLockParams(length=self.capacity)

    def limits(self):
        chances = dict.fromkeys(("swap", "decoy_chance"), (0, 1))
        return chances | {"length": (1, self.capacity), "mdp_seed": (0, 2**31 - 1), "noise": (0, np.inf)}

    def random_and_best(self, params):
        """As in ``Tabular``, in closed form: tables of a long lock, one for each lane, would not fit in memory."""
        length, step = jnp.float32(params.length), jnp.float32(params.step_reward)
        decoy = params.decoy * params.decoy_chance
        # With as much for each step, it is best to stay to the end, or to leave at once or at the last time.
        best = jnp.maximum(1 + (length - 1) * step, decoy + jnp.maximum((length - 1) * step, 0.0))
        # A random policy is alive before its (h + 1)th action with probability A^-h.
        alive = jnp.float32(self.actions.n) ** -jnp.arange(1, self.capacity)
        steps = jnp.where(jnp.arange(1, self.capacity) < length, alive, 0.0).sum()
        opened = jnp.float32(self.actions.n) ** -length
        low = opened + steps * step + (1 - opened) * decoy
        return low, best

    def starts(self, params):
        return jnp.full(2, 0.5), jnp.arange(2)

    def outcomes(self, state, action, params):
        time, chain = _time_and_chain(state)
        live, over = chain != _DEAD, time + 1 == params.length
        good = live & (action == self._good_action(time, chain, params))
        leaves = jnp.array([_DEAD, _DEAD])
        following = jnp.where(good, jnp.stack([chain, 1 - chain]), leaves)
        # The first state of a time comes after three states of each time before, less the one missing at the start.
        index = jnp.where(over, self.num_states, 3 * (time + 1) - 1 + following)
        decoy = jnp.where(live, params.decoy, 0.0)
        reward = jnp.where(good, jnp.where(over, 1.0, params.step_reward), jnp.stack([decoy, jnp.zeros_like(decoy)]))
        chance = jnp.where(good, 1 - jnp.float32(params.swap), jnp.float32(params.decoy_chance))
        return Outcomes(jnp.stack([chance, 1 - chance]), index, reward)

    def _good_action(self, time, chain, params):
        word = key_of(jnp.asarray(params.mdp_seed, jnp.int32))
        return jax.random.randint(jax.random.fold_in(word, 2 * time + chain), (), 0, self.actions.n)

    def observe(self, key, index, params):
        if self.observation in ("one_hot", "index"):
            return super().observe(key, index, params)
        time, chain = _time_and_chain(index)
        chain = jnp.where(index == self.num_states, -1, chain)
        latent = jnp.concatenate([jax.nn.one_hot(chain, 3), jax.nn.one_hot(time, self.capacity + 1)])
        if self.observation == "bernoulli":
            return jnp.concatenate([latent, jax.random.bernoulli(key, 0.5, (self.capacity,)).astype(jnp.float32)])
        size = 2 ** ceil(log2(latent.size))
        latent = jnp.pad(latent, (0, size - latent.size)) + params.noise * jax.random.normal(key, (size,))
        return jnp.matmul(hadamard(size).astype(np.float32), latent, precision="highest")

    def picture(self):
        """A column for each time, a row for each chain."""
        time, chain = np.indices((self.capacity + 1, 3))
        cells = np.minimum(3 * time + chain - (time > 0), self.num_states)
        cells[0, _DEAD] = -1
        return cells.T


def _time_and_chain(index):
    shifted = index + (index > 1)
    return shifted // 3, shifted % 3
