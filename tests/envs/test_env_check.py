"""Every violation that ``check_env`` names, made on purpose in an environment that is otherwise sound."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl.envs import make
from jaxrl.envs.check import check_env
from jaxrl.envs.contract import AutoReset, task_of
from jaxrl.envs.wrappers import wrapped
from jaxrl.errors import UserError
from jaxrl.types import Box, Discrete

LIMIT = 6


class Walk(AutoReset):
    """Starts at random in [0, 1), each step adds 1; ends at 6 steps."""

    actions = Discrete(2)
    max_steps = LIMIT
    num_states = LIMIT

    def state_id(self, state, params):
        return state["time"]

    def reset_env(self, key, params):
        obs = jax.random.uniform(key, (1,))
        return obs, {"x": obs, "time": 0}

    def step_env(self, key, state, action, params):
        state = {"x": state["x"] + 1, "time": state["time"] + 1}
        return state["x"], state, 1.0, False, state["time"] >= LIMIT, {}


class Still(Walk):
    """Always starts at 0."""

    def reset_env(self, key, params):
        return jnp.zeros(1), {"x": jnp.zeros(1), "time": 0}


def broken_step(change, base=Walk):
    """The environment, its step's result changed by ``change(env, key, state, result)``."""

    class Broken(base):
        def step(self, key, state, action, params=None):
            return change(self, key, state, super().step(key, state, action, params))

    return Broken()


def written(change):
    """The environment, what its ``step_env`` returns changed by ``change(env, key, state, action, result)``."""

    class Written(Walk):
        def step_env(self, key, state, action, params):
            return change(self, key, state, action, super().step_env(key, state, action, params))

    return Written()


def broken(**attributes):
    env = Walk()
    for name, value in attributes.items():
        setattr(env, name, value)
    return env


def replaced(index, value):
    return lambda env, key, state, result: (*result[:index], value(result[index]), *result[index + 1 :])


def info(env, key, state, result, **entries):
    return (*result[:5], {**result[5], **entries})


def without_reset(env, key, state, result):
    stepped = env.step_env(key, state, 0, None)
    return (stepped[0], {**stepped[1], "time": stepped[1]["time"] % LIMIT}, *result[2:])


def same_reset(env, key, state, result):
    done = result[3] | result[4]
    first = env.reset(jax.random.key(7))
    return (*jax.tree.map(lambda a, b: jnp.where(done, a, b), first, result[:2]), *result[2:])


VIOLATIONS = {
    "an if on the action": (
        written(lambda env, key, state, action, result: result if action == 1 else result),
        r"step_env failed in .*test_env_check.py, line \d+, `written\(.* if action == 1 .*`: TracerBool.*jnp.where",
    ),
    "an if on the state": (
        written(lambda env, key, state, action, result: result if state["time"] > 2 else result),
        r"step_env failed in .*test_env_check.py, line \d+, .*TracerBoolConversionError",
    ),
    "five values of step_env": (
        written(lambda env, key, state, action, result: result[:5]),
        r"step_env must return \(obs, state, reward, terminated, truncated, info\), and returned 5 values",
    ),
    "a dict of step_env": (
        written(lambda env, key, state, action, result: dict(enumerate(result))),
        r"step_env must return \(obs, .*, info\), and returned a single value, \{0: float32\[1\]",
    ),
    "six values in another order": (
        written(lambda env, key, state, action, result: (*result[:5], result[2])),
        r"step_env: info is a float, it must be a dict",
    ),
    "a reward with an axis": (
        written(lambda env, key, state, action, result: (*result[:2], jnp.ones(1), *result[3:])),
        r"step_env: reward is float32\[1\], it must be a float32 scalar",
    ),
    "terminated as a number in step_env": (
        written(lambda env, key, state, action, result: (*result[:3], jnp.float32(0), *result[4:])),
        r"step_env: terminated is float32\[\], it must be a bool scalar",
    ),
    "an observation that grows": (
        written(lambda env, key, state, action, result: (jnp.zeros(2), *result[1:])),
        r"the observation is float32\[1\] from reset_env and float32\[2\] from step_env",
    ),
    "a state that changes its type": (
        written(lambda env, key, state, action, result: (result[0], {**result[1], "time": 0.5}, *result[2:])),
        r"the state\['time'\] is int32\[\] from reset_env and float32\[\] from step_env",
    ),
    "a state that changes its structure": (
        written(lambda env, key, state, action, result: (result[0], result[1]["x"], *result[2:])),
        r"the state has the structure .* from reset_env and \* from step_env",
    ),
    "an error in step_env": (
        written(lambda env, key, state, action, result: state["speed"]),
        r"step_env failed in .*test_env_check.py, line \d+, .*KeyError: 'speed'",
    ),
    "five values": (broken_step(lambda env, key, state, result: result[:5]), "step must return"),
    "no final observation": (
        broken_step(lambda env, key, state, result: (*result[:5], {})),
        r"info\['final_observation'\] is missing",
    ),
    "final observation of another shape": (
        broken_step(lambda *args: info(*args, final_observation=jnp.zeros(2))),
        r"info\['final_observation'\] is float32\[1\] from reset and float32\[2\] from step",
    ),
    "observation of another type": (
        broken_step(replaced(0, lambda obs: obs.astype(jnp.int32))),
        r"the observation is float32\[1\] from reset and int32\[1\] from step",
    ),
    "state of another type": (
        broken_step(replaced(1, lambda state: {**state, "time": jnp.float32(state["time"])})),
        r"the state\['time'\] is int32\[\] from reset and float32\[\] from step",
    ),
    "weak type": (
        broken(reset=lambda key, params: (jnp.zeros(1), {"x": jnp.zeros(1), "time": 0})),
        r"the state\['time'\] is int32\[\] \(weak type, from a Python number\) from reset and int32\[\] from step",
    ),
    "state of another structure": (
        broken_step(replaced(1, lambda state: {**state, "more": state["time"]})),
        "the state has the structure",
    ),
    "step that cannot read the state": (
        broken(reset=lambda key, params: (jnp.zeros(1), jnp.zeros(1))),
        r"step failed in .*test_env_check.py, line \d+, `state = .*`: TypeError",
    ),
    "integer reward": (broken_step(replaced(2, jnp.int32)), r"reward is int32\[\], it must be a float32 scalar"),
    "terminated as a number": (broken_step(replaced(3, jnp.float32)), r"terminated is float32\[\]"),
    "truncated with an axis": (broken_step(replaced(4, lambda flag: flag[None])), r"truncated is bool\[1\]"),
    "final observation wrong in mid-episode": (
        broken_step(lambda env, key, state, result: info(env, key, state, result, final_observation=result[0] * 0)),
        "no episode ended at step 0, and yet",
    ),
    "final observation after the reset": (
        broken_step(lambda env, key, state, result: info(env, key, state, result, final_observation=result[0])),
        "the final observation was taken after the reset",
    ),
    "no reset": (broken_step(without_reset), "either step does not reset"),
    "no reset to the only start": (broken_step(without_reset, Still), "not the one that reset always gives"),
    "reset with the same key": (broken_step(same_reset), "must use a fresh key"),
    "no end at the limit": (broken(max_steps=LIMIT - 1), "an episode went on for 6 steps, with no end at the limit"),
    "state_id out of range": (broken(num_states=LIMIT - 1), "state_id gave int32 numbers from 0 to 5"),
    "state_id of another type": (
        broken(state_id=lambda state, params: jnp.float32(state["time"])),
        r"state_id gave float32\[\], it must give an int32 scalar",
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violation(name):
    env, sentence = VIOLATIONS[name]
    with pytest.raises(UserError, match=sentence):
        check_env(task_of(env), steps=20)


class Lost(Walk):
    def reset_env(self, key, params):
        return jnp.zeros(3)


class Choosy(Walk):
    def reset_env(self, key, params):
        return super().reset_env(key, params) if jax.random.uniform(key) > 0.5 else None


class Unmade(Walk):
    def __init__(self, size=0):
        self.width = 1 / size


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (Lost, r"'Lost' breaks the contract: reset_env must return \(obs, state\), and returned a single value"),
        (Choosy, r"'Choosy' breaks the contract: reset_env failed in .*, line \d+, `return super.*`: TracerBool"),
        (Unmade, r"'Unmade' cannot be made with no arguments in .*, line \d+, `self.width = .*`: ZeroDivisionError"),
    ],
)
def test_a_fault_before_the_first_step(env, sentence):
    with pytest.raises(UserError, match=sentence):
        make(env)


def test_a_fault_below_wrappers_is_the_environments_own():
    env = written(lambda env, key, state, action, result: result[:5])
    with pytest.raises(UserError, match="step_env must return .* and returned 5 values"):
        check_env(wrapped(task_of(env), ["sticky_actions(probability=0.5)"]))


def test_actions_outside_the_space():
    task = task_of(Walk())._replace(actions=Box(1.0, -1.0, (2,)))
    with pytest.raises(UserError, match="lie outside"):
        check_env(task, steps=20)


def test_a_sound_environment_and_its_report():
    report = check_env(Walk(), steps=20)
    assert report == {
        "name": "Walk",
        "steps": 20,
        "episodes": 3,
        "terminated": 0,
        "truncated": 3,
        "both": 0,
        "limit_tested": True,
        "random_starts": True,
        "reset_tested": True,
    }
    assert check_env(Still(), steps=20)["random_starts"] is False


def test_the_report_says_what_was_not_tested():
    report = check_env(Walk(), steps=LIMIT - 1)
    assert (report["episodes"], report["limit_tested"], report["reset_tested"]) == (0, False, False)


class Ended(Walk):
    """Takes its limit for termination, and says so in one of several ways."""

    both = False

    def step_env(self, key, state, action, params):
        obs, state, reward, _, over, info = super().step_env(key, state, action, params)
        return obs, state, reward, over, over & self.both, info


class EndedToo(Ended):
    both = True


class Countdown(Walk):
    def reset_env(self, key, params):
        return jnp.zeros(1), (jnp.zeros(1), jnp.float32(LIMIT))

    def step_env(self, key, state, action, params):
        left = state[1] - 1
        return jnp.zeros(1), (state[0], left), 0.0, left == 0, False, {}

    def state_id(self, state, params):
        return jnp.int32(0)


@pytest.mark.parametrize("env", [Ended, EndedToo, Countdown])
def test_a_limit_that_is_taken_for_termination(env):
    with pytest.raises(UserError, match=r"at the limit, max_steps=6, the episode was terminated, and the same step"):
        check_env(env(), steps=20)
    assert check_env(env(), steps=LIMIT - 1)["limit_tested"] is False  # not reached, not judged
    if env is Ended:  # the same behind a wrapper that has a clock of its own
        with pytest.raises(UserError, match="at the limit, max_steps=6"):
            check_env(make(Ended, wrap=["noisy_tv(when='always')"]), steps=20)


@pytest.mark.parametrize("name", ["probe/termination", "probe/delay", "probe/constant", "DeepSea-bsuite"])
def test_an_end_that_the_agent_sees_coming_is_one_even_at_the_limit(name):
    """Each ends the world at the step where the limit stands, in a place that the observation or the reward shows."""
    report = check_env(name, steps=40)
    assert report["limit_tested"] and report["terminated"] == report["episodes"] > 0


class Poisoned(Walk):
    """Shows or pays what is no finite number, from the third step on."""

    def __init__(self, obs=0.0, reward=0.0, start=0.0):
        self.obs, self.reward, self.start = obs, reward, start

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs + self.start, state

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, truncated, info = super().step_env(key, state, action, params)
        late = state["time"] >= 3
        obs, reward = jnp.where(late, obs + self.obs, obs), jnp.where(late, reward + self.reward, reward)
        return obs, state, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("poison", "sentence"),
    [
        ({"obs": jnp.nan}, r"final_observation'\] at step 2 with the value nan: all must be finite"),
        ({"obs": jnp.inf}, r"final_observation'\] at step 2 with the value inf"),
        ({"reward": -jnp.inf}, "the reward at step 2 with the value -inf"),
        ({"start": jnp.nan}, "reset gave an observation with the value nan"),
    ],
)
def test_observations_and_rewards_must_be_finite(poison, sentence):
    with pytest.raises(UserError, match=sentence):
        check_env(Poisoned(**poison), steps=20)
