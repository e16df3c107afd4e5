"""What a user can get wrong, said in a sentence."""

import difflib
from collections.abc import Iterable, Mapping

MOST_SHOWN = 30  # names in a message
LIKELIEST = 12  # of more than that
MOST_WRITTEN = 200  # characters of a value

# What fields are called here, and in other libraries.
SYNONYMS = {
    "lr": ("learning_rate", "step_size"),
    "discount": ("gamma",),
    "gae_lambda": ("lambda", "gae", "lam", "td_lambda"),
    "entropy": ("entropy_coef", "ent_coef", "entropy_cost", "entropy_coefficient"),
    "value_coef": ("vf_coef", "value_loss_coef", "critic_coef"),
    "clip": ("clip_eps", "clip_coef", "clip_range", "clip_ratio"),
    "max_grad_norm": ("grad_clip", "clip_grad", "gradient_clip"),
    "coef": ("beta", "intrinsic_coef", "bonus_coef", "bonus_weight", "int_coef"),
    "bonus_discount": ("int_gamma", "intrinsic_gamma", "intrinsic_discount"),
    "steps": ("total_timesteps", "timesteps", "num_timesteps", "total_steps", "budget"),
    "num_steps": ("n_steps", "rollout_length", "unroll_length", "horizon"),
    "num_envs": ("n_envs", "envs", "num_actors"),
    "epochs": ("n_epochs", "update_epochs", "num_epochs"),
    "minibatches": ("num_minibatches", "n_minibatches"),
    "hidden": ("hidden_sizes", "layers", "net_arch", "hidden_dims"),
    "env": ("environment", "env_id", "env_name", "task"),
    "env_args": ("env_kwargs", "env_params"),
    "bonus": ("intrinsic", "intrinsic_reward", "exploration"),
    "agent": ("algorithm", "algo", "policy"),
    "seeds": ("seed", "num_seeds", "n_seeds"),
}


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints the sentence and exits with code 2."""


def quoted(value: object) -> str:
    """A value as a message writes it: its repr, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python writes; lists in lists without end
        return f"({type(value).__name__} too large to be written)"
    return text if len(text) <= MOST_WRITTEN else f"{text[:MOST_WRITTEN]}..."


def unknown(kind: str, name: object, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist, naming the nearest one and what is allowed: the likeliest of many."""
    allowed = sorted(allowed)
    # Case is folded so that "RND" finds "rnd"; the cutoff is difflib's default.
    folded = {candidate.lower(): candidate for candidate in allowed}
    typed = str(name)[:MOST_WRITTEN].lower()
    begun = sorted((candidate for candidate in folded if typed and candidate.startswith(typed)), key=len)
    nearest = [*_elsewhere(typed, folded), *begun, *difflib.get_close_matches(typed, folded, n=1)]
    guess = f" did you mean {folded[nearest[0]]!r}?" if nearest else ""
    if len(allowed) <= MOST_SHOWN:
        return UserError(f"unknown {kind} {quoted(name)}:{guess} allowed: {', '.join(allowed) or 'none'}")
    likely = dict.fromkeys([*nearest, *difflib.get_close_matches(typed, folded, n=LIKELIEST, cutoff=0.0)])
    listed = ", ".join(folded[candidate] for candidate in [*likely][:LIKELIEST])
    return UserError(f"unknown {kind} {quoted(name)}:{guess} the likeliest of {len(allowed)} are {listed}")


def _elsewhere(typed: str, folded: Mapping[str, str]) -> list[str]:
    """What is called here what has the typed name in another library."""
    owner, dot, last = typed.rpartition(".")
    flag = "--" if typed.startswith("--") else ""
    last = last.removeprefix(flag).replace("-", "_")
    here = next((here for here, names in SYNONYMS.items() if last in names), "")
    found = flag + here.replace("_", "-") if flag else f"{owner}{dot}{here}"
    return [found] if found in folded else []
