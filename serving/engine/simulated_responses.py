"""The simulator's side of /v1/responses: vLLM's objects and events in form, in vLLM's order, as of vLLM 0.32."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Wire = dict[str, Any]
_ID = "resp_simulated"
_MESSAGE = "msg_simulated"


def prompt_text(request: Mapping[str, Any]) -> str:
    """What the model would read: instructions, then the text of the input."""
    items = request.get("input")
    contents = [items] if isinstance(items, str) else [each.get("content") for each in items or []]
    parts = [content if isinstance(content, list) else [{"text": content}] for content in contents]
    texts = [request.get("instructions"), *(part.get("text") for each in parts for part in each)]
    return " ".join(text for text in texts if isinstance(text, str))


def whole(request: Mapping[str, Any], tokens: Sequence[str], prompt: int) -> Wire:
    """A complete response."""
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(tokens),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + len(tokens),
    }
    return _response(request, "completed", [_message("completed", [_part("".join(tokens))])], usage)


def events(request: Mapping[str, Any], tokens: Sequence[str], prompt: int) -> Iterator[Wire]:
    """The same as events; one delta a token."""
    begun = _response(request, "in_progress", [], None)
    text, place = "".join(tokens), {"item_id": _MESSAGE, "output_index": 0, "content_index": 0}
    at = {"output_index": 0}
    done = [_part(text)]
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    yield {"type": "response.output_item.added", **at, "item": _message("in_progress", [])}
    yield {"type": "response.content_part.added", **place, "part": _part("")}
    for token in tokens:
        yield {"type": "response.output_text.delta", **place, "delta": token, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": done[0]}
    yield {"type": "response.output_item.done", **at, "item": _message("completed", done)}
    yield {"type": "response.completed", "response": whole(request, tokens, prompt)}


def _response(request: Mapping[str, Any], status: str, output: list[Wire], usage: Wire | None) -> Wire:
    echoed = {name: request.get(name) for name in ("model", "instructions", "metadata", "max_output_tokens")}
    return {
        "id": _ID,
        "object": "response",
        "created_at": int(time.time()),
        **echoed,
        "status": status,
        "output": output,
        "usage": usage,
        "tools": request.get("tools") or [],
        "tool_choice": request.get("tool_choice") or "auto",
        "parallel_tool_calls": True,
        "temperature": request.get("temperature", 1.0),
        "top_p": request.get("top_p", 1.0),
        "background": False,
        "truncation": "disabled",
        "service_tier": "auto",
        "incomplete_details": None,
    }


def _message(status: str, content: list[Wire]) -> Wire:
    return {"id": _MESSAGE, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> Wire:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
