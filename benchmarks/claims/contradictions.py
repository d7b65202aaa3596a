"""Where the documents disagree with each other, computed from what each says about the same quantity."""

from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from benchmarks.claims.claim import Book, Group, Side


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two sides of one question that cannot both be right: intervals without a common value, or different stances."""

    group: Group
    one: Side
    other: Side


def all_conflicts(book: Book) -> tuple[Conflict, ...]:
    """Every pair of sides in conflict, by group."""
    return tuple(
        Conflict(group, one, other)
        for group in book.groups
        for one, other in combinations(group.sides, 2)
        if _conflict(one, other)
    )


def conflicts(book: Book, claim_id: str) -> tuple[Conflict, ...]:
    """Those in which a claim takes part, its own side first."""
    found = []
    for conflict in all_conflicts(book):
        if claim_id in conflict.one.claims:
            found.append(conflict)
        elif claim_id in conflict.other.claims:
            found.append(Conflict(conflict.group, conflict.other, conflict.one))
    return tuple(found)


def _conflict(one: Side, other: Side) -> bool:
    if one.stance or other.stance:
        return one.stance != other.stance
    return _lower(one) > _upper(other) or _lower(other) > _upper(one)


def _lower(side: Side) -> Decimal:
    return Decimal("-Infinity") if side.low is None else side.low


def _upper(side: Side) -> Decimal:
    return Decimal("Infinity") if side.high is None else side.high
