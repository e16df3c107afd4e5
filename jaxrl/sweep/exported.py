"""A stored policy as plain JAX: its weights, and the few lines that act with them, which need jaxrl no more.

OUT/weights.safetensors    the networks' arrays, without what optimises them
OUT/act.py                 loads them and acts greedily
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jaxrl import disk
from jaxrl.agents.ppo import OBSERVATION_CLIP, PPOState
from jaxrl.errors import UserError
from jaxrl.moments import deviation
from jaxrl.networks import CATEGORIES
from jaxrl.spaces import bounds, scale
from jaxrl.sweep.chunk import flat_arrays
from jaxrl.sweep.policy import Policy, load_policy, manifest_of, stored_lanes
from jaxrl.types import Box, Discrete

AGENTS = ("ppo", "ppo_rnn")
WEIGHTS, ACT = "weights.safetensors", "act.py"
ACTIVATION = {"tanh": "jnp.tanh", "relu": "jax.nn.relu", "elu": "jax.nn.elu"}
HEAD = '''"""{title}

Needs jax and safetensors; jaxrl made it and is needed no more.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from safetensors.numpy import load_file

w = load_file(Path(__file__).with_name("{weights}"))
dense = lambda x, name: x @ w[f"{{name}}/kernel"].T + w[f"{{name}}/bias"]

'''
FEED_FORWARD = '''
def act(obs):
    """Greedy actions {actions} of observations {observations}; of a single one, act(obs[None])[0]."""
{torso}
{action}
'''
RECURRENT = '''
def start(n):
    """The memory of n environments: what the GRU remembers [n, W], the last actions, the last rewards [n]."""
    return jnp.zeros((n, {width})), jnp.zeros((n, *{shape}), {dtype}), jnp.zeros(n)


def act(memory, obs, first):
    """(memory, greedy actions {actions}) of observations {observations}; first [N]: an episode begins.

    Put the rewards of the actions in the place of the third part of the memory before the next call.
    """
    h, last, reward = memory
    keep = 1.0 - jnp.asarray(first, jnp.float32)[:, None]
    h = h * keep
{torso}
{previous}
    given = x @ w["gru/input"] + w["gru/bias"]
    (r, z, n), (hr, hz, hn) = jnp.split(given, 3, -1), jnp.split(h @ w["gru/hidden"], 3, -1)
    r, z = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)
    h = (1.0 - z) * jnp.tanh(n + r * (hn + w["gru/candidate_bias"])) + z * h
    x = dense(h, "actor/Dense_0")
{action}
'''


def export(
    directory: str | Path,
    lane: str,
    out: str | Path | None = None,
    *,
    allow: Collection[str] = (),
    objects: Mapping[str, Callable] | None = None,
) -> Path:
    """Write the policy of a stored lane into `out`, by default export/LANE of the results; returns its act.py.

    `lane`, `allow` and `objects` are as for `load_policy`.

    Raises:
        UserError: an agent or a trainer whose policy is not a network of `AGENTS`, or `out` holds such files already.
    """
    manifest = manifest_of(directory, lane)
    static, lanes = stored_lanes(directory, manifest, allow, objects)
    row = next(row for row in lanes if row["lane"].startswith(lane))
    policy = load_policy(directory, lane, allow=allow, objects=objects)
    if static["agent"] not in AGENTS or not isinstance(policy.state, PPOState):
        raise UserError(
            f"lane {row['lane']}: policies of {' and '.join(AGENTS)} are exported, not those of agent "
            f"{static['agent']!r} under trainer {static['trainer']!r}; jaxrl.sweep.load_policy acts with any"
        )
    title = f"What lane {row['lane']} learned: {static['agent']} on {static['env']}, seed {row['seed']:d}."
    return write(policy, static, out or Path(directory) / "export" / row["lane"], title)


def write(policy: Policy, static: Mapping[str, Any], out: str | Path, title: str) -> Path:
    """`export` of a policy in hand, whose program has these static fields; `title` opens act.py."""
    out = Path(out)
    for file in (out / WEIGHTS, out / ACT):
        if file.exists():
            raise UserError(f"{file} is there already: name another directory with --out, or remove it")
    with disk.place(out):
        disk.write(out / WEIGHTS, safetensors.numpy.save(_weights(policy)))
        disk.write(out / ACT, _source(policy, static, title).encode())
    return out / ACT


def _weights(policy: Policy) -> dict[str, np.ndarray]:
    state, actions = policy.state, policy.task.actions
    named = {name.replace("/params/", "/"): array for name, array in flat_arrays(state.params).items()}
    named |= {"obs/mean": np.asarray(state.moments.mean), "obs/deviation": np.asarray(deviation(state.moments))}
    if isinstance(actions, Box):
        named |= dict(zip(("action/low", "action/high"), bounds(actions), strict=True))
        named |= dict(zip(("action/centre", "action/half"), scale(actions), strict=True))
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


def _source(policy: Policy, static: Mapping[str, Any], title: str) -> str:
    task, actions = policy.task, policy.task.actions
    box = isinstance(actions, Box)
    shape = actions.shape if isinstance(actions, Box) else ()
    recurrent = static["agent"] == "ppo_rnn"
    owner, layers = ("encoder", len(static["hidden"]) - 1) if recurrent else ("actor", len(static["hidden"]))
    torso = _torso(task, static, owner, layers)
    if recurrent:
        torso.append(f"x = {ACTIVATION[static['activation']]}(x)")
    words = {
        "actions": f"[N, {shape[0]}] float32" if isinstance(actions, Box) else f"[N] int32 from 0 to {actions.n - 1}",
        "observations": f"{['N', *task.obs_shape]} {task.obs_dtype}".replace("'", ""),
        "torso": _indented(torso),
        "action": _indented(_action(box, recurrent)),
        "width": int(static.get("width", 0)),
        "shape": shape,
        "dtype": "jnp.float32" if box else "jnp.int32",
        "previous": _indented(_previous(actions) if static.get("previous") else []),
    }
    body = (RECURRENT if recurrent else FEED_FORWARD).format(**words)
    # What comes from stored results is words in this file, whatever it says.
    title = "".join(letter if letter.isprintable() and letter not in '"\\' else "?" for letter in title)
    return HEAD.format(title=title, weights=WEIGHTS) + "\n".join(line for line in body.split("\n") if line != "    ")


def _torso(task: Any, static: Mapping[str, Any], owner: str, layers: int) -> list[str]:
    """Lines that make x, the last layer's output before any activation, of obs."""
    activation, torso = ACTIVATION[static["activation"]], static["torso"]
    lines = ["x = jnp.asarray(obs)"]
    if static["normalize_obs"]:
        clip = OBSERVATION_CLIP
        lines.append(f'x = jnp.clip((x.astype(jnp.float32) - w["obs/mean"]) / w["obs/deviation"], -{clip}, {clip})')
    if torso == "conv":
        owner_of_dense = f"{owner}/MLP_0"
        large = min(task.obs_shape[:2]) >= 36
        strides, padding = ((4, 2, 1), "VALID") if large else ((1, 1, 1), "SAME")
        if task.obs_dtype == np.uint8 and not static["normalize_obs"]:
            lines.append("x = x / 255.0")
        lines += [
            "x = x.astype(jnp.float32)",
            f"for i, stride in enumerate({strides}):",
            f'    kernel, form = w[f"{owner}/Conv_{{i}}/kernel"], ("NHWC", "HWIO", "NHWC")',
            f'    x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "{padding}", dimension_numbers=form)',
            f'    x = {activation}(x + w[f"{owner}/Conv_{{i}}/bias"])',
        ]
    elif torso == "symbolic":
        owner_of_dense = f"{owner}/MLP_0"
        lines.append(f"x = jax.nn.one_hot(jnp.clip(x, 0, {CATEGORIES - 1}), {CATEGORIES})")
    else:
        owner_of_dense = owner
    lines.append("x = x.reshape(len(x), -1).astype(jnp.float32)")
    lines += [f'x = {activation}(dense(x, "{owner_of_dense}/Dense_{i}"))' for i in range(layers)]
    return [*lines, f'x = dense(x, "{owner_of_dense}/Dense_{layers}")']


def _previous(actions: Discrete | Box) -> list[str]:
    """Lines that add what came before to x."""
    unit = '(last - w["action/centre"]) / w["action/half"]'
    last = f"({unit})" if isinstance(actions, Box) else f"jax.nn.one_hot(last, {actions.n})"
    return [f"x = jnp.concatenate([x, keep * {last}, keep * reward[:, None]], -1)"]


def _action(box: bool, recurrent: bool) -> list[str]:
    """Lines that turn x, the actor's output, into what act returns."""
    mapped = 'w["action/centre"] + w["action/half"] * jnp.clip(x, -1.0, 1.0)'  # as jaxrl.spaces.from_unit
    found = f'jnp.clip({mapped}, w["action/low"], w["action/high"])' if box else "x.argmax(-1).astype(jnp.int32)"
    return [f"action = {found}", "return (h, action, reward), action"] if recurrent else [f"return {found}"]


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
