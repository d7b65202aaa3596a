"""OpenAI's Responses: what we read of a request, and the items and objects that we write ourselves.

vLLM answers /v1/responses; what it cannot do is refused here with the reason, instead of being ignored there.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval import citations as checked
from retrieval import prompt
from retrieval.passages import Passage
from serving import file_search, openai
from serving.errors import BadRequest, NotOffered
from serving.file_search import FileSearch
from serving.limits import Limits, check_costly, check_schema
from serving.stores.sources import file_of

Item = dict[str, Any]
RESULTS = "file_search_call.results"
_NO_STATE = "responses are not kept; send the earlier items in `input`"
# Fields of OpenAI's -> why we do not have them. vLLM would need its unbounded in-memory store for the first four.
_NOT_OFFERED: Mapping[str, str] = {
    "previous_response_id": _NO_STATE,
    "conversation": _NO_STATE,
    "background": "responses are not kept, so nobody could fetch the result; stream it instead",
    "previous_input_messages": _NO_STATE,
    "prompt": "prompt templates are not kept here; send `instructions` and `input`",
    "context_management": "conversations are not compacted; send what the model should see",
    "moderation": openai.NOT_OFFERED["moderation"],
    "image": "the served models give text only",
    "access_programs": "they are programs of OpenAI's",
}
_TOOLS = ("function", "custom")
_PARTS = ("input_text", "output_text", "refusal", "text", "reasoning_text", "summary_text")


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One parsed request. `fields` is what the engine may see; `shown` what the answer echoes instead of it."""

    model: str
    stream: bool
    question: str
    search: FileSearch | None
    results: bool
    extension: openai.Extension
    fields: Mapping[str, Any]
    shown: Mapping[str, Any]


def parse(body: bytes, limits: Limits) -> ResponseRequest:
    """Parse and check. Raises BadRequest, NotOffered."""
    fields = openai.parse_json(body)
    extension = openai.parse_extension(fields.pop("breakeven", None), limits)
    model, stream = fields.get("model"), fields.get("stream") or False
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must name a served model; GET /v1/models lists them", param="model")
    if not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    openai.check_offered(fields, _NOT_OFFERED)
    check_costly(fields, limits)
    check_schema(fields, "text", limits)
    instructions = fields.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise BadRequest("`instructions` must be a string", param="instructions")
    items = _input(fields.get("input"))
    tools = fields.get("tools") or []
    shown = {"tools": tools, "tool_choice": fields.get("tool_choice") or "auto", "instructions": instructions}
    search, rest = file_search.take(fields, limits)
    for tool in rest.get("tools") or []:
        if not isinstance(tool, dict) or tool.get("type") not in _TOOLS:
            kind = tool.get("type") if isinstance(tool, dict) else tool
            raise NotOffered(f"the tool {str(kind)[:50]!r} runs on OpenAI's machines, not here", param="tools")
    include = fields.get("include") or []
    if not isinstance(include, list):
        raise BadRequest("`include` must be a list", param="include")
    left = [each for each in include if each != RESULTS]
    rest = {**rest, "input": items, "include": left, "store": False}
    shown["store"] = False
    return ResponseRequest(model, stream, _question(items), search, RESULTS in include, extension, rest, shown)


def text_length(fields: Mapping[str, Any]) -> int:
    """Characters of text in instructions and input."""
    items = fields["input"]
    texts = [{"content": items}] if isinstance(items, str) else [each for each in items if "role" in each]
    return len(fields.get("instructions") or "") + openai.text_length(texts)


def search_call(question: str, results: Sequence[Item] | None) -> Item:
    """The item that says what was searched; with the results if the client asked for them."""
    item: Item = {"id": f"fs_{uuid.uuid4().hex}", "type": "file_search_call", "status": "completed"}
    return {**item, "queries": [question], "results": None if results is None else list(results)}


def citations(text: str, passages: Sequence[Passage]) -> list[Item]:
    """File citations: one where the text says [n] for a passage; if it never does, one per passage at the end."""
    by_number = {each["number"]: each["source"] for each in prompt.describe(passages)}
    marked = [(index, by_number[number]) for index, number in checked.places(text) if number in by_number]
    cited = []
    for index, source in marked or [(len(text), source) for source in dict.fromkeys(by_number.values())]:
        file_id, filename = file_of(source)
        cited.append({"type": "file_citation", "file_id": file_id, "filename": filename, "index": index})
    return cited


def annotate(item: Item, passages: Sequence[Passage]) -> Item:
    """A message item with citations in each of its texts; any other item as it is."""
    if item.get("type") != "message":
        return item
    return {**item, "content": [annotated_part(part, passages) for part in item.get("content") or []]}


def annotated_part(part: Item, passages: Sequence[Passage]) -> Item:
    """A content part with its citations."""
    if part.get("type") != "output_text":
        return part
    return {**part, "annotations": citations(part.get("text") or "", passages)}


def texts(output: Sequence[Item]) -> list[str]:
    """What the model said in its messages."""
    parts = [part for item in output if item.get("type") == "message" for part in item.get("content") or []]
    return [part.get("text") or "" for part in parts if part.get("type") == "output_text"]


def whole(model: str, text: str, output: Sequence[Item], shown: Mapping[str, Any]) -> Item:
    """A response that the engine did not write: `output`, then a message; it cost no tokens."""
    part: Item = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "top_p": None,
        "output": [*output, {**message, "content": [part]}],
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        **shown,
    }


def _input(value: Any) -> str | list[Item]:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise BadRequest("`input` must be a string or a list of items, and not empty", param="input")
    for index, item in enumerate(value):
        if item.get("type") == "item_reference":
            raise NotOffered(f"items are not kept: {_NO_STATE}", param=f"input.{index}")
        content = item.get("content")
        parts: list[Any] = content if isinstance(content, list) else []
        for part in parts:
            if not isinstance(part, dict) or part.get("type") not in _PARTS:
                raise BadRequest(
                    f"`input.{index}` has a part that is not text; this is a text model",
                    param=f"input.{index}",
                    code="unsupported_content_part",
                )
    # Earlier output sent back: the engine does not know our item, and its passages are searched anew.
    return [item for item in value if item.get("type") != "file_search_call"]


def _question(items: str | list[Item]) -> str:
    if isinstance(items, str):
        return items
    for item in reversed(items):
        if item.get("role") == "user":
            content = item.get("content")
            if isinstance(content, list):
                return "\n".join(str(part.get("text") or "") for part in content)
            return content if isinstance(content, str) else ""
    return ""
