"""The windows that budgets are for: days and months of UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

Kind = Literal["day", "month"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` up to, not including, `until`; seconds since 1970."""

    kind: Kind
    since: float
    until: float

    @property
    def ends(self) -> str:
        """When it ends, for people and programs."""
        return datetime.fromtimestamp(self.until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def window(kind: Kind, at: float) -> Window:
    """The window that `at` (seconds since 1970) is in."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return Window(kind, day.timestamp(), (day + timedelta(days=1)).timestamp())
    first = day.replace(day=1)
    return Window(kind, first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp())
