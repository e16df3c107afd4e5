"""What a user can get wrong, said in a sentence."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints the sentence and exits with code 2."""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist, naming the nearest one and everything allowed."""
    allowed = sorted(allowed)
    # Case is folded so that "RND" finds "rnd"; the cutoff is difflib's default.
    folded = {candidate.lower(): candidate for candidate in allowed}
    nearest = difflib.get_close_matches(str(name).lower(), folded, n=1)
    guess = f" did you mean {folded[nearest[0]]!r}?" if nearest else ""
    return UserError(f"unknown {kind} {name!r}:{guess} allowed: {', '.join(allowed) or 'none'}")
