"""OpenAI's cursor pages: `after`/`before` name an object, `order` is by creation, `has_more` tells whether to go on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import BadRequest

Wire = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    limit: int = 20
    descending: bool = True
    after: str | None = None
    before: str | None = None

    def of(self, objects: Iterable[Wire]) -> Wire:
        """The page of `objects` (each with `id`, oldest first) as OpenAI's list object. Raises BadRequest."""
        listed = list(objects)
        if self.descending:
            listed.reverse()
        if self.after is not None:
            listed = listed[_position(listed, self.after, "after") + 1 :]
        more = False
        if self.before is not None:
            listed = listed[: _position(listed, self.before, "before")]
            # Going backwards the page is the one that ends just before the cursor.
            shown, more = listed[-self.limit :], len(listed) > self.limit
        else:
            shown, more = listed[: self.limit], len(listed) > self.limit
        return {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": more,
        }


def parse_page(query: Mapping[str, str], most: int = 100, default: int = 20) -> Page:
    """The page that a query string asks for. Raises BadRequest."""
    limit, order = query.get("limit", str(default)), query.get("order", "desc")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= most:
        raise BadRequest(f"`limit` must be a whole number from 1 to {most}", param="limit")
    if order not in ("asc", "desc"):
        raise BadRequest("`order` must be asc or desc", param="order")
    return Page(int(limit), order == "desc", query.get("after") or None, query.get("before") or None)


def _position(listed: list[Wire], id: str, name: str) -> int:
    for index, each in enumerate(listed):
        if each["id"] == id:
            return index
    raise BadRequest(f"`{name}` names no object of this list; start again without it", param=name)
