"""What would change the answer: for each input the smallest change that does, all others as they are."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import get_args

from benchmarks.advice.needs import INPUTS, Input, Need, Needs, Value
from benchmarks.advice.options import Design

# Steps outwards per direction, and halvings of the step in which the answer changed: to within a percent of a doubling.
_STEPS, _HALVINGS = 40, 10
# A choice turned over counts as much as a number doubled.
_CHOICE = 1.0

Key = tuple[Design, bool]
Decide = Callable[[Needs], Key]


@dataclass(frozen=True, slots=True)
class Flip:
    """`to` is the nearest value with another answer, `becomes` that answer, `distance` how far it is, in doublings."""

    name: str
    now: Value
    to: Value
    becomes: Key
    distance: float


def flips(needs: Needs, decide: Decide) -> tuple[Flip, ...]:
    """One for every input that can change the answer, the nearest first."""
    now = decide(needs)
    found = [flip for held in INPUTS.values() if (flip := _flip(held, needs, decide, now))]
    return tuple(sorted(found, key=lambda flip: (flip.distance, flip.name)))


def _flip(held: Input, needs: Needs, decide: Decide, now: Key) -> Flip | None:
    value = needs.value(held.name)
    if isinstance(value, Decimal):
        sides = [_towards(held, value, end, needs, decide) for end in (held.low, held.high) if end != value]
        return min((side for side in sides if side), key=lambda flip: flip.distance, default=None)
    others: tuple[Value, ...] = (not value,) if isinstance(value, bool) else get_args(Need)
    for other in others:
        becomes = decide(needs.but(held.name, other))
        if becomes != now:
            return Flip(held.name, value, other, becomes, _CHOICE)
    return None


def _towards(held: Input, value: Decimal, end: Decimal, needs: Needs, decide: Decide) -> Flip | None:
    """Walks outwards in even ratios until the answer changes, then halves the last step."""
    now, grain = decide(needs), held.grain
    ratio = float((end + grain) / (value + grain)) ** (1 / _STEPS)

    def at(step: float) -> Decimal:
        """The value `step` steps away, to three digits, as a person would write it."""
        if step >= _STEPS:
            return end
        exact = Decimal((float(value + grain)) * ratio**step) - grain
        return max(held.low, min(held.high, Decimal(f"{exact:.3g}")))

    beyond = next((step for step in range(1, _STEPS + 1) if decide(needs.but(held.name, at(step))) != now), None)
    if beyond is None:
        return None
    near, far = float(beyond - 1), float(beyond)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        if decide(needs.but(held.name, at(middle))) != now:
            far = middle
        else:
            near = middle
    to = at(far)
    distance = abs(math.log2(float((to + grain) / (value + grain))))
    return Flip(held.name, value, to, decide(needs.but(held.name, to)), distance)
