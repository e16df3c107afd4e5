"""A finite MDP, as tables and as an environment that steps through it without building them.

A task says what may follow from one state and one action (``outcomes``); the environment draws from that, and ``mdp``
collects it over all states and actions for ``planning``. So the two can not disagree, and a step costs the number of
outcomes, not the size of the table.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.contract import AutoReset
from jaxrl.envs.tabular import planning
from jaxrl.envs.tabular.planning import TabularMDP
from jaxrl.errors import UserError, unknown
from jaxrl.types import Array, Discrete, Key

# Share of the gap between the uniformly random policy and the best one that counts as solved.
SOLVED = 0.9
_CELL = 16  # pixels
_WALL, _FLOOR, _REWARD, _AGENT = (
    np.array(rgb, np.float32) for rgb in ((60, 60, 60), (240, 240, 240), (80, 180, 90), (210, 60, 50))
)


class Outcomes(NamedTuple):
    """What may follow an action: K cases, of which one is drawn. Two cases may lead to the same state."""

    probability: Array  # [K] float32, sums to 1
    state: Array  # [K] int32
    reward: Array  # [K] float32


class TabularState(NamedTuple):
    position: Array  # [] int32, the state of the MDP, in [0, size)
    time: Array  # [] int32, steps of this episode


class Tabular(AutoReset):
    """Base class: write ``starts`` and ``outcomes`` of one state and one action, inherit the environment and its table.

    The agent acts in the states ``0 .. num_states - 1``; the ``num_terminal`` after them end the episode. An episode is
    truncated after ``horizon`` steps. Observations are one-hot float32 ``[size]``, or with ``observation="index"`` the
    int32 state itself, ``[]``.

    A return solves the task when it closes nine tenths of the gap between the uniformly random policy and the exact
    optimum for the horizon: a share of the optimum alone would call a random policy good where rewards are dense, and
    leave no room where they are negative. Decoys stay below it by far. Returns vary, so few evaluation episodes of even
    the best policy may miss it: 16 of the default RiverSwim, whose best return is 3.4 on average with a deviation of
    2.7, in three cases of ten.
    """

    num_terminal = 0
    observations: tuple[str, ...] = ("one_hot", "index")

    def __init__(self, num_states: int, num_actions: int, horizon: int, observation: str = "one_hot"):
        self.num_states = whole("num_states", num_states, 1)
        self.actions = Discrete(whole("num_actions", num_actions, 1))
        self.max_steps = whole("horizon", horizon, 1)
        if observation not in self.observations:
            raise unknown("observation", observation, self.observations)
        self.observation = observation

    def starts(self, params: Any) -> tuple[Array, Array]:
        """(probability ``[K]`` float32, state ``[K]`` int32) of the states that open an episode."""
        raise NotImplementedError

    def outcomes(self, state: Array, action: Array, params: Any) -> Outcomes:
        """What may follow from one state that is not terminal and one action, both ``[]`` int32."""
        raise NotImplementedError

    def limits(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value allowed for fields of the params."""
        return {}

    def picture(self) -> np.ndarray:
        """``[rows, columns]`` int: the state drawn in each cell, or -1 for a wall."""
        return np.arange(self.size)[None]

    @property
    def size(self) -> int:
        """S, terminal states included."""
        return self.num_states + self.num_terminal

    def solved(self, params: Any) -> Any:
        """The return to reach (see the class); a float, or traced where params are.

        Raises UserError for numbers outside ``limits``: this is asked whenever a task is made, and nothing else is.
        """
        self._check(params)
        low, high = jax.jit(self.random_and_best)(params)
        threshold = low + SOLVED * (high - low)
        return threshold if isinstance(threshold, jax.core.Tracer) else float(threshold)

    def _check(self, params: Any) -> None:
        for name, (low, high) in self.limits().items():
            value = getattr(params, name)
            if isinstance(value, jax.core.Tracer):
                continue
            is_whole = isinstance(getattr(self.default_params, name), int)
            number = float(value) if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "buif" else np.nan
            if not low <= number <= high or (is_whole and number != number // 1):
                kind = "a whole number" if is_whole else "a number"
                raise UserError(f"{name} of {type(self).__name__} must be {kind} in [{low:g}, {high:g}], not {value!r}")

    def random_and_best(self, params: Any) -> tuple[Array, Array]:
        """Expected returns ``[]`` of the uniformly random policy and of the best one, exactly."""
        mdp = self.mdp(params)
        low, _ = planning.evaluate(mdp, planning.uniform(mdp), self.max_steps)
        high, _ = planning.optimal(mdp, self.max_steps)
        return planning.at_start(mdp, low), planning.at_start(mdp, high)

    def mdp(self, params: Any) -> TabularMDP:
        """The tables ``[S, A, S]``, ``[S, A]``, ``[S]``; terminal states stay where they are and pay nothing."""
        every_action = jax.vmap(self._cases, (None, 0, None))
        every_pair = jax.vmap(every_action, (0, None, None))
        states, actions = jnp.arange(self.size), jnp.arange(self.actions.n)
        cases = every_pair(states, actions, params)  # [S, A, K]
        pairs = states[:, None, None], actions[None, :, None], cases.state
        P = jnp.zeros((self.size, self.actions.n, self.size)).at[pairs].add(cases.probability)
        probability, state = self.starts(params)
        mu = jnp.zeros(self.size).at[state].add(probability)
        return TabularMDP(P, (cases.probability * cases.reward).sum(-1), mu)

    def _cases(self, state: Array, action: Array, params: Any) -> Outcomes:
        cases = self.outcomes(state, action, params)
        terminal = state >= self.num_states
        return Outcomes(
            jnp.asarray(cases.probability, jnp.float32),
            jnp.where(terminal, state, cases.state).astype(jnp.int32),
            jnp.where(terminal, 0.0, cases.reward).astype(jnp.float32),
        )

    def reset_env(self, key: Key, params: Any) -> tuple[Array, TabularState]:
        start_key, observe_key = jax.random.split(key)
        probability, states = self.starts(params)
        state = TabularState(states[draw(start_key, probability)], jnp.int32(0))
        return self.observe(observe_key, state.position, params), state

    def step_env(self, key: Key, state: TabularState, action: Array, params: Any) -> tuple:
        case_key, observe_key = jax.random.split(key)
        cases = self._cases(state.position, action, params)
        case = draw(case_key, cases.probability)
        state = TabularState(cases.state[case], state.time + 1)
        terminated = state.position >= self.num_states
        truncated = (state.time >= self.max_steps) & ~terminated
        obs = self.observe(observe_key, state.position, params)
        return obs, state, cases.reward[case], terminated, truncated, {}

    def observe(self, key: Key, index: Array, params: Any) -> Array:
        return index if self.observation == "index" else jax.nn.one_hot(index, self.size)

    def state_id(self, state: TabularState, params: Any) -> Array:
        # `check_env` and a trainer only ever ask about states that an action is taken in.
        return state.position

    def render(self, state: TabularState, params: Any) -> Array:
        """uint8 ``[16 rows, 16 columns, 3]``: the agent red, walls dark, states greener the more an action pays there.

        A terminal state is drawn as the best reward.
        """
        cells = self.picture()
        best = self.mdp(params).R.max(-1)
        shade = jnp.where(jnp.arange(self.size) < self.num_states, best / jnp.maximum(best.max(), 1e-12), 1.0)
        floor = _FLOOR + jnp.clip(shade, 0.0, 1.0)[:, None] * (_REWARD - _FLOOR)  # [S, 3]
        colours = jnp.where((cells == -1)[..., None], _WALL, floor[cells])
        colours = jnp.where((cells == state.position)[..., None], _AGENT, colours)
        pixels = jnp.repeat(jnp.repeat(colours, _CELL, 0), _CELL, 1)
        rows, columns = np.indices(pixels.shape[:2]) % _CELL == 0
        return jnp.where((rows | columns)[..., None], _WALL, pixels).astype(jnp.uint8)


class Table(Tabular):
    """Any ``TabularMDP`` as an environment; the params are the tables, so thousands differ between lanes under vmap.

    ``reward`` is the mean R[s, a] at each step. The last ``num_terminal`` states end the episode, whatever their rows
    say. Raises UserError for tables whose shapes disagree and for rows that are not probabilities.
    """

    def __init__(self, mdp: TabularMDP, horizon: int, num_terminal: int = 0, observation: str = "one_hot"):
        self.num_terminal = whole("num_terminal", num_terminal, 0)
        planning.check(mdp)
        size, num_actions = mdp.R.shape
        super().__init__(size - num_terminal, num_actions, horizon, observation)
        self.default_params = mdp

    def starts(self, params):
        return params.mu, jnp.arange(self.size)

    def outcomes(self, state, action, params):
        return Outcomes(
            params.P[state, action], jnp.arange(self.size), jnp.full(self.size, params.R[state, action], jnp.float32)
        )


def draw(key: Key, probability: Array) -> Array:
    """An index drawn from ``probability`` ``[K]``, int32; never one of probability zero."""
    cumulative = jnp.cumsum(probability)
    # The sum is one up to rounding; scaled by it, the draw stays below the last step of `cumulative`.
    threshold = jax.random.uniform(key) * cumulative[-1]
    return (cumulative <= threshold).sum().astype(jnp.int32)


def whole(argument: str, value: Any, low: int) -> int:
    """``value`` as an int; UserError unless it is a whole number, at least ``low``."""
    if not (isinstance(value, (int, float, np.integer)) and value == value // 1 and value >= low):
        raise UserError(f"{argument} must be a whole number, at least {low}, not {value!r}")
    return int(value)
