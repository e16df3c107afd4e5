import pytest
from mujoco_playground import dm_control_suite

from jaxrl import envs
from jaxrl.envs.catalogue import row_of, rows
from jaxrl.envs.playground import NAMES
from jaxrl.errors import UserError


def test_the_table_is_the_registry():
    assert [name.removeprefix("playground/") for name in NAMES] == list(dm_control_suite.ALL_ENVS)
    assert [name for name, row in rows().items() if row.source == "playground"] == list(NAMES)


def test_the_limit_truncates_and_the_contract_holds():
    task = envs.make("playground/PendulumSwingup", episode_length=7)
    assert task.env.env.mjx_model.impl.value == "jax"  # the library's default needs an NVIDIA GPU
    report = envs.check_env(task, steps=21)
    assert (report["terminated"], report["truncated"], report["limit_tested"]) == (0, 3, True)
    assert report["random_starts"] and report["reset_tested"]


def test_catalogue():
    task = envs.make("playground/PendulumSwingup")
    assert row_of(task, "playground") == rows()[task.name]


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [({"impl": "warp"}, "impl = 'warp' .*only 'jax'"), ({"episode_lenght": 3}, "unknown argument .*episode_lenght")],
)
def test_mistakes_are_answered_with_a_sentence(kwargs, sentence):
    with pytest.raises(UserError, match=sentence):
        envs.make("playground/PendulumSwingup", **kwargs)
