"""OpenAI's `file_search` tool and its attribute filters, read into what our search takes. Knows no documents."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from retrieval.filters import MAX_CONDITIONS, MAX_DEPTH
from serving.errors import BadRequest, NotOffered
from serving.limits import Limits

MAX_STORES = 10
MAX_RESULTS = 50  # OpenAI's own bound
_COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
_RANKERS = (None, "none", "auto", "default-2024-11-15")
_FIELDS = frozenset({"type", "vector_store_ids", "max_num_results", "filters", "ranking_options"})


@dataclass(frozen=True, slots=True)
class FileSearch:
    """What a client wants searched; None means not said. `filter` is in our own form."""

    store_ids: tuple[str, ...]
    top_k: int | None = None
    min_score: float | None = None
    filter: Mapping[str, Any] | None = None

    def over(self, filter: Mapping[str, Any] | None) -> "FileSearch":
        """Narrowed further by another filter."""
        both = [each for each in (self.filter, filter) if each]
        return replace(self, filter={"$and": both} if len(both) == 2 else next(iter(both), None))


def take(fields: Mapping[str, Any], limits: Limits) -> tuple[FileSearch | None, Mapping[str, Any]]:
    """The file_search tool of a request and the request's fields without it. Raises BadRequest."""
    tools = fields.get("tools")
    if not isinstance(tools, list) or not any(_is_file_search(tool) for tool in tools):
        return None, fields
    found = [tool for tool in tools if _is_file_search(tool)]
    if len(found) > 1:
        raise BadRequest("give one `file_search` tool, with all its vector_store_ids", param="tools")
    rest = {**fields, "tools": [tool for tool in tools if not _is_file_search(tool)]}
    # The search always happens, so whoever required a tool call has had it.
    if not rest["tools"] or rest.get("tool_choice") == "required" or _is_file_search(rest.get("tool_choice")):
        rest.pop("tool_choice", None)
    if not rest["tools"]:
        for name in ("tools", "parallel_tool_calls"):
            rest.pop(name, None)
    return _tool(found[0], limits), rest


def ranking(options: Any, where: str) -> float | None:
    """The least score of `ranking_options`. Raises BadRequest, NotOffered."""
    if options is None:
        return None
    if not isinstance(options, dict) or options.get("ranker") not in _RANKERS:
        raise BadRequest(f"`{where}.ranker` must be auto, none or default-2024-11-15", param=where)
    if options.get("hybrid_search") is not None:
        raise NotOffered(
            "weights of hybrid search cannot be set by a request: they are measured", param=f"{where}.hybrid_search"
        )
    score = options.get("score_threshold")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1):
        raise BadRequest(f"`{where}.score_threshold` must be a number from 0 to 1", param=f"{where}.score_threshold")
    return score


def results(value: Any, limits: Limits) -> int | None:
    """`max_num_results`. Raises BadRequest."""
    most = min(MAX_RESULTS, limits.max_top_k)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most):
        raise BadRequest(f"`max_num_results` must be a whole number from 1 to {most}", param="max_num_results")
    return value


def attribute_filter(value: Any, depth: int = 1) -> dict[str, Any] | None:
    """OpenAI's comparison and compound filters in our form. Raises BadRequest; what values fit is checked later."""
    if value is None:
        return None
    if depth > MAX_DEPTH:
        raise BadRequest(f"`filters` are nested more than {MAX_DEPTH} levels deep", param="filters")
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("and", "or"):
        parts = value.get("filters")
        if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_CONDITIONS:
            raise BadRequest(f"a compound filter needs 1 to {MAX_CONDITIONS} `filters`", param="filters")
        return {f"${kind}": [attribute_filter(part or {}, depth + 1) for part in parts]}
    key = value.get("key") if isinstance(value, dict) else None
    if kind not in _COMPARISONS or not isinstance(key, str) or key.startswith("$") or "value" not in value:
        raise BadRequest(
            'each of `filters` must be {"type": "eq" (ne, gt, gte, lt, lte, in, nin), "key", "value"} '
            'or {"type": "and" (or), "filters": [...]}',
            param="filters",
        )
    return {key: {f"${kind}": value["value"]}}


def _is_file_search(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "file_search"


def _tool(tool: Mapping[str, Any], limits: Limits) -> FileSearch:
    if unknown := sorted(set(tool) - _FIELDS):
        raise BadRequest(f"`file_search` has no field {unknown[0]!r}", param="tools")
    ids = tool.get("vector_store_ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_STORES or not all(isinstance(id, str) for id in ids):
        raise BadRequest(f"`file_search` needs 1 to {MAX_STORES} `vector_store_ids`", param="tools")
    return FileSearch(
        tuple(dict.fromkeys(ids)),
        results(tool.get("max_num_results"), limits),
        ranking(tool.get("ranking_options"), "ranking_options"),
        attribute_filter(tool.get("filters")),
    )
