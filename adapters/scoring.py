"""Does the adapter do what it was trained for, where the base model does not? Pure functions on the answers' text."""

import math
import re
from collections.abc import Sequence

from adapters.manifest import Score

# The 97.5 % quantile of the normal distribution, for a two-sided 95 % interval.
_Z = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); unlike the normal one it stays sensible at 0 and at n."""
    share = successes / n
    centre = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    # Rounding errors must not push a bound past the share itself.
    return min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))


def has_format(pattern: str, answer: str) -> bool:
    """Whether the whole answer, surrounding white space aside, matches the recipe's regular expression."""
    return re.fullmatch(pattern, answer.strip()) is not None


def format_scores(pattern: str, adapter: Sequence[str], base: Sequence[str]) -> tuple[Score, ...]:
    """Compare answers to the same questions, in the same order.

    `format_gained` is the share where the adapter's answer has the format and the base's has not.
    """
    trained = [has_format(pattern, answer) for answer in adapter]
    plain = [has_format(pattern, answer) for answer in base]
    gained = [mine and not theirs for mine, theirs in zip(trained, plain, strict=True)]
    return (
        _score("format_gained", gained),
        _score("format_adapter", trained),
        _score("format_base", plain),
    )


def _score(name: str, hits: Sequence[bool]) -> Score:
    low, high = wilson(sum(hits), len(hits))
    return Score(name=name, value=sum(hits) / len(hits), n=len(hits), low=round(low, 4), high=round(high, 4))
