import flax.struct
import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from gymnax.environments.environment import Environment
from jax.interpreters.partial_eval import dce_jaxpr

from jaxrl import envs
from jaxrl.envs.contract import sample_action, task_of
from jaxrl.errors import UserError
from jaxrl.types import Discrete


def play(task, policy, steps, seed=0):
    """(states before each step, final observations, rewards, terminated, truncated), each with leading axis steps."""

    def body(carry, key):
        obs, state = carry
        action = policy(obs, state)
        obs, next_state, reward, terminated, truncated, info = task.env.step(key, state, action, task.params)
        return (obs, next_state), (state, info["final_observation"], reward, terminated, truncated)

    def run(key):
        return jax.lax.scan(body, task.env.reset(key, task.params), jax.random.split(key, steps))[1]

    return jax.jit(run)(jax.random.key(seed))


def test_cartpole_balanced_to_the_limit_is_truncated_not_terminated():
    task = envs.make("CartPole-v1")
    balance = jnp.array([0.1, 0.3, 3.0, 1.0])
    _, _, rewards, terminated, truncated = play(task, lambda obs, state: jnp.int32(obs @ balance > 0), 1000)
    assert not terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(truncated), [499, 999])
    assert rewards.sum() == 1000


def test_cartpole_fallen_over_is_terminated_not_truncated():
    task = envs.make("CartPole-v1")
    _, _, _, terminated, truncated = play(task, lambda obs, state: jnp.int32(1), 50)
    assert terminated.any() and not truncated.any()


def test_deep_sea_optimal_play():
    task = envs.make("DeepSea-bsuite", size=5)
    right = lambda obs, state: state.action_mapping[state.row, state.column]
    states, final, rewards, terminated, _ = play(task, right, 5)
    np.testing.assert_allclose(rewards.sum(), 0.99, rtol=1e-6)
    np.testing.assert_array_equal(terminated, [False] * 4 + [True])
    np.testing.assert_array_equal(task.state_id(states, task.params), [0, 2, 5, 9, 14])
    assert final[3].sum() == 1 and final[4].sum() == 0  # the terminal observation is all zeros
    assert rewards.sum() > task.solved
    _, _, rewards, _, _ = play(task, lambda obs, state: 1 - right(obs, state), 5)
    assert rewards.sum() == 0


def test_deep_sea_states_are_numbered_one_to_one():
    task = envs.make("DeepSea-bsuite", size=5)
    _, state = task.env.reset(jax.random.key(0), task.params)
    cells = [(row, column) for row in range(5) for column in range(row + 1)]
    ids = [int(task.state_id(state.replace(row=row, column=column), task.params)) for row, column in cells]
    assert sorted(ids) == list(range(task.num_states))
    report = envs.check_env(task, steps=200)
    assert report["both"] == report["episodes"] == 40


def test_arguments_reach_the_constructor_and_the_params():
    task = envs.make("DeepSea-bsuite", size=6, unscaled_move_cost=0.0)
    assert (task.obs_shape, task.max_steps, task.num_states) == ((6, 6), 6, 21)
    assert task.params.unscaled_move_cost == 0.0 and task.params.deterministic is True


def test_thresholds_are_gymnasiums_and_hold_for_its_parameters_only():
    for name in ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"):
        spec = gymnasium.spec(name)
        task = envs.make(name)
        assert (task.solved, task.max_steps) == (spec.reward_threshold, spec.max_episode_steps)
    assert envs.make("CartPole-v1", max_steps_in_episode=200).solved is None
    assert envs.make("DeepSea-bsuite", size=20, randomize_actions=False).solved == 0.9
    assert envs.make("DeepSea-bsuite", unscaled_move_cost=0.5).solved is None
    assert envs.make("DeepSea-bsuite", deterministic=False).solved is None


@pytest.mark.parametrize("name", ["UmbrellaChain-bsuite", "Pendulum-v1", "MetaMaze-misc"])
def test_the_adapter_mends_what_the_library_breaks(name):
    raw = gymnax.make(name)
    with pytest.raises(UserError, match=r"reward is int32|weak type"):
        envs.check_env(task_of(*raw))
    envs.check_env(name)


def test_a_users_own_gymnax_environment_is_adapted():
    class Heavy(type(gymnax.make("MountainCar-v0")[0])):
        pass

    task = envs.make(Heavy, gravity=0.003)
    assert (task.name, task.params.gravity) == ("Heavy", 0.003)
    assert envs.make(Heavy).solved is None  # the threshold was published for another environment
    envs.check_env(task, steps=20)


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0",
                                  "Pendulum-v1", "Catch-bsuite", "DeepSea-bsuite", "Breakout-MinAtar"])  # fmt: skip
def test_a_picture_changes_with_the_state(name):
    task = envs.make(name)

    def pictures(key):
        _, state = task.env.reset(key, task.params)
        after = task.env.step(key, state, sample_action(task.actions, key), task.params)[1]
        return task.env.render(state, task.params), task.env.render(after, task.params)

    before, after = map(np.asarray, jax.jit(pictures)(jax.random.key(0)))
    assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[-1] == 3
    assert len(np.unique(before.reshape(-1, 3), axis=0)) >= 3 and (before != after).any()


def test_the_map_of_deep_sea_is_the_sea():
    env = envs.make("DeepSea-bsuite", size=3).env
    assert env.map_shape == (3, 3) and env.map_cells.tolist() == [0, 3, 4, 6, 7, 8]


@flax.struct.dataclass
class OldState:
    place: jax.Array
    time: int


@flax.struct.dataclass
class OldParams:
    max_steps_in_episode: int = 6


class Old(Environment):
    """As for gymnax before 1.0: the limit is one of the ends. The world itself ends at place 3; action 1 goes there."""

    @property
    def default_params(self):
        return OldParams()

    def action_space(self, params):
        return spaces.Discrete(2)

    def reset_env(self, key, params):
        return jnp.zeros(1), OldState(jnp.int32(0), 0)

    def step_env(self, key, state, action, params):
        state = OldState(state.place + action, state.time + 1)
        return jnp.float32(state.place)[None], state, jnp.float32(0), self.is_terminal(state, params), {}

    def is_terminal(self, state, params):
        return (state.place == 3) | (state.time >= params.max_steps_in_episode)


class Late(Old):
    """Its own limit is a step after gymnax's; both ends are cut."""

    def is_truncated(self, state, params):
        return False


class Discounting(Old):
    """What gymnax before 1.0 told to write; its base class now asks for is_terminated."""

    def step_env(self, key, state, action, params):
        *step, _ = super().step_env(key, state, action, params)
        return *step, {"discount": self.discount(state, params)}


@pytest.mark.parametrize("env", [Old, Late])
def test_the_limit_of_an_old_class_truncates_and_its_end_terminates(env):
    task = envs.make(env)
    ends = lambda action: play(task, lambda obs, state: jnp.int32(action), 12)[3:]
    terminated, truncated = ends(0)
    assert not terminated.any() and np.flatnonzero(truncated).tolist() == [5, 11]
    terminated, truncated = ends(1)
    assert np.flatnonzero(terminated).tolist() == [2, 5, 8, 11] and not truncated.any()
    report = envs.check_env(task, steps=60)
    assert report["limit_tested"] and report["truncated"] > 0
    # the same class behind an adapter that does not split is refused
    whole = envs.make(env)
    whole.env.lifted = False
    with pytest.raises(UserError, match="at the limit, max_steps=6, the episode was terminated"):
        envs.check_env(whole._replace(actions=Discrete(1)), steps=60)


def test_a_class_that_gymnax_no_longer_understands_has_its_sentence():
    with pytest.raises(UserError, match="'Discounting' is written for gymnax before 1.0: call its is_terminal is_term"):
        envs.check_env(Discounting, steps=10)


@pytest.mark.parametrize("name", sorted({*gymnax.registration._registry} - {"MNISTBandit-bsuite"}))  # it downloads
def test_no_class_of_gymnax_itself_takes_the_limit_for_termination(name):
    """So the adapter leaves them as they are: what they compute `terminated` from holds no max_steps_in_episode."""
    env, params = gymnax.make(name)

    def terminated(limit):
        limited = params.replace(max_steps_in_episode=limit)
        _, state = env.reset_env(jax.random.key(0), params)
        action = env.action_space(params).sample(jax.random.key(0))
        return env.step_env(jax.random.key(0), state, action, limited)[3]

    traced = jax.make_jaxpr(terminated)(jnp.int32(7)).jaxpr
    assert dce_jaxpr(traced, [True])[1] == [False]
