"""Checks of what clients send for files and vector stores, as OpenAI documents it. All raise BadRequest."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.auth import EVERYONE
from serving.errors import BadRequest

MAX_PAIRS = 16
MAX_KEY = 64
MAX_VALUE = 512
MAX_FILES = 2000  # of one batch
MAX_DAYS = 365
LEAST_CHUNK = 100  # tokens; OpenAI's own bounds
MOST_CHUNK = 4096
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as of API keys: no other group could ever be asked for
Attributes = dict[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Chunking:
    """A static chunking strategy, in tokens of the embedder."""

    size: int
    overlap: int

    def wire(self) -> dict[str, Any]:
        """OpenAI's object."""
        return {
            "type": "static",
            "static": {"max_chunk_size_tokens": self.size, "chunk_overlap_tokens": self.overlap},
        }


def only(fields: Mapping[str, Any], *known: str) -> None:
    """Refuses fields that we would have to ignore."""
    if unknown := sorted(set(fields) - set(known)):
        raise BadRequest(f"there is no field `{unknown[0]}`; known are {', '.join(known)}", param=unknown[0])


def text(fields: Mapping[str, Any], name: str, longest: int = 256) -> str | None:
    """An optional string."""
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > longest):
        raise BadRequest(f"`{name}` must be a string of at most {longest} characters", param=name)
    return value


def metadata(value: Any) -> dict[str, str]:
    """Up to 16 pairs of short strings."""
    pairs = _pairs(value, "metadata")
    if not all(isinstance(each, str) and len(each) <= MAX_VALUE for each in pairs.values()):
        raise BadRequest(f"values of `metadata` must be strings of at most {MAX_VALUE} characters", param="metadata")
    return pairs


def attributes(value: Any) -> Attributes:
    """Up to 16 pairs of strings, numbers and booleans, by which searches can be filtered."""
    pairs = _pairs(value, "attributes")
    for each in pairs.values():
        if not isinstance(each, str | int | float | bool) or (isinstance(each, str) and len(each) > MAX_VALUE):
            raise BadRequest(
                f"values of `attributes` must be strings of at most {MAX_VALUE} characters, numbers or booleans",
                param="attributes",
            )
    return pairs


def expires_days(value: Any) -> int | None:
    """Days after the last activity, or None: never."""
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("anchor") != "last_active_at":
        raise BadRequest('`expires_after` must be {"anchor": "last_active_at", "days": n}', param="expires_after")
    return _whole(value.get("days"), 1, MAX_DAYS, "expires_after.days")


def chunking(value: Any, longest: int) -> Chunking | None:
    """None is automatic. A static strategy must fit the embedder, which takes `longest` tokens."""
    if value is None or value == {"type": "auto"}:
        return None
    static = value.get("static") if isinstance(value, dict) and value.get("type") == "static" else None
    if not isinstance(static, dict):
        raise BadRequest('`chunking_strategy` must be {"type": "auto"} or static', param="chunking_strategy")
    name = "chunking_strategy.static"
    size = _whole(static.get("max_chunk_size_tokens"), LEAST_CHUNK, MOST_CHUNK, f"{name}.max_chunk_size_tokens")
    overlap = _whole(static.get("chunk_overlap_tokens"), 0, size // 2, f"{name}.chunk_overlap_tokens")
    if size > longest:
        raise BadRequest(
            f"chunks of {size} tokens do not fit the embedder, which takes {longest}: the rest would not be found. "
            f'Ask for at most {longest}, or use {{"type": "auto"}}',
            param=f"{name}.max_chunk_size_tokens",
        )
    return Chunking(size, overlap)


def groups(value: Any) -> frozenset[str]:
    """Who may read a file, from `breakeven.groups`; everyone of the tenant if it is left out."""
    if value is None:
        return frozenset({EVERYONE})
    chosen = value.get("groups", [EVERYONE]) if isinstance(value, dict) and set(value) <= {"groups"} else None
    if not isinstance(chosen, list) or not chosen or not all(_is_group(each) for each in chosen):
        raise BadRequest('`breakeven` must be {"groups": [...]} with at least one group name', param="breakeven")
    return frozenset(chosen)


def ids(value: Any, name: str = "file_ids") -> list[str]:
    """A list of ids, each once, in order."""
    if not isinstance(value, list) or len(value) > MAX_FILES or not all(isinstance(each, str) for each in value):
        raise BadRequest(f"`{name}` must be a list of at most {MAX_FILES} ids", param=name)
    return list(dict.fromkeys(value))


def _pairs(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_PAIRS or any(len(key) > MAX_KEY for key in value):
        raise BadRequest(f"`{name}` must be an object of at most {MAX_PAIRS} keys of {MAX_KEY} characters", param=name)
    return value


def _whole(value: Any, low: int, high: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"`{name}` must be a whole number from {low} to {high}", param=name)
    return value


def _is_group(value: Any) -> bool:
    return isinstance(value, str) and _GROUP.fullmatch(value) is not None
