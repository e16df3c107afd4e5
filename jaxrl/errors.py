"""What a user can get wrong, said in a sentence."""

import difflib
from collections.abc import Iterable

MOST_SHOWN = 30  # names in a message


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints the sentence and exits with code 2."""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist, naming the nearest one and what is allowed: the likeliest of many."""
    allowed = sorted(allowed)
    # Case is folded so that "RND" finds "rnd"; the cutoff is difflib's default.
    folded = {candidate.lower(): candidate for candidate in allowed}
    nearest = difflib.get_close_matches(str(name).lower(), folded, n=1)
    guess = f" did you mean {folded[nearest[0]]!r}?" if nearest else ""
    shown = allowed
    if len(allowed) > MOST_SHOWN:
        likely = difflib.get_close_matches(str(name).lower(), folded, n=MOST_SHOWN, cutoff=0.0)
        shown = [*(folded[candidate] for candidate in likely), f"... ({len(allowed)} in all)"]
    return UserError(f"unknown {kind} {name!r}:{guess} allowed: {', '.join(shown) or 'none'}")
