"""The wire: what we read of an OpenAI request, and the objects we write ourselves.

Narrow on purpose. Everything vLLM accepts is passed through untouched; we parse the body once, check the few fields
that can hurt other requests, and take out our own extension object `breakeven`.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from serving.errors import BadRequest, NotOffered
from serving.limits import Limits, bounded, check_costly, common, flag

Endpoint = Literal["chat", "completions"]
ENGINE_PATH: Mapping[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}

# Fields of OpenAI's that would be ignored although they change the answer. Field -> why.
NOT_OFFERED: Mapping[str, str] = {
    **dict.fromkeys(("audio", "modalities"), "the served models take and give text only"),
    "moderation": "inputs and answers are not moderated here",
    "web_search_options": "nothing here searches the web; `file_search` searches documents",
    "functions": "it is the old name: send `tools`",
}
# A tuple, as wherever a client's words are looked up: they may be a list, which has no hash.
_TEXT_PARTS = ("text", "refusal", "input_text", "output_text", "thinking")
# What a name may be anywhere (sections.Name); also keeps what a client types out of logs and the ledger.
_KNOWLEDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
EXTENSION = "breakeven"
_EXTENSION_FIELDS = ("knowledge", "top_k", "min_score", "filter")


@dataclass(frozen=True, slots=True)
class Extension:
    """The request's `breakeven` object: overrides of the served model's retrieval; None means not overridden."""

    knowledge: str | None = None
    top_k: int | None = None
    min_score: float | None = None
    filter: Mapping[str, Any] | None = None


_NO_EXTENSION = Extension()


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One parsed request. `fields` is everything the client sent, without `breakeven`."""

    endpoint: Endpoint
    model: str
    stream: bool
    wants_usage: bool
    n: int
    fields: Mapping[str, Any] = field(repr=False)
    extension: Extension = _NO_EXTENSION

    @property
    def sequences(self) -> int:
        """How many the engine will generate at once."""
        prompt = self.fields.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
        return max(self.n, self.fields.get("best_of") or 1) * prompts


def parse_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; BadRequest otherwise."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(parsed, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    return parsed


def parse_completion(body: bytes, endpoint: Endpoint, limits: Limits) -> CompletionRequest:
    """Parse and check a chat or text completion request. Raises BadRequest or NotOffered naming the field."""
    fields = parse_json(body)
    extension = parse_extension(fields.pop(EXTENSION, None), limits)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must name a served model; GET /v1/models lists them", param="model")
    if endpoint == "chat":
        check_messages(fields.get("messages"))
    elif not isinstance(fields.get("prompt"), str | list):
        raise BadRequest("`prompt` must be a string or a list", param="prompt")
    check_offered(fields, NOT_OFFERED)
    check_costly(fields, limits)
    stream = flag(fields, "stream")
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("`stream_options` must be an object", param="stream_options")
    wants_usage = bool(options and options.get("include_usage"))
    return CompletionRequest(endpoint, model, stream, wants_usage, fields.get("n") or 1, fields, extension)


def check_messages(messages: Any) -> None:
    """Refuse messages that are not OpenAI messages, or that carry anything but text."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a non-empty list", param="messages")
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"`{where}` must be an object with a `role`", param=where)
        content = message.get("content")
        if isinstance(content, list):
            _check_parts(content, where)
        elif content is not None and not isinstance(content, str):
            raise BadRequest(f"`{where}.content` must be a string or a list of parts", param=where)


def _check_parts(parts: Sequence[Any], where: str) -> None:
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS:
            raise BadRequest(
                f"`{where}` has a part of type {str(kind)[:50]!r}; this is a text model and takes only `text` parts",
                param=where,
                code="unsupported_content_part",
            )
        if "text" in part and not isinstance(part["text"], str):
            raise BadRequest(f"`{where}` has a part whose `text` is not a string", param=where)


def encode(fields: Mapping[str, Any]) -> bytes:
    """The JSON for the engine. Raises BadRequest for what can be read but is nested too deep to be written again."""
    try:
        return orjson.dumps(fields)
    except TypeError as error:
        raise BadRequest(f"the body cannot be passed on: {error}", code="invalid_json") from None


def extended(body: bytes, answer: Mapping[str, Any], extension: Mapping[str, Any]) -> bytes:
    """`body`, the JSON of `answer`, with `breakeven` as its last field: the engine's bytes go on as they came."""
    if EXTENSION in answer:  # the engine is a Breakeven
        return orjson.dumps({**answer, EXTENSION: extension})
    return b'%b,"breakeven":%b}' % (body.rstrip()[:-1], orjson.dumps(extension))


def check_offered(fields: Mapping[str, Any], missing: Mapping[str, str]) -> None:
    """Refuse what would be ignored; `missing` says why. Raises NotOffered."""
    if missing.keys().isdisjoint(fields):
        return
    for name in common(missing, fields):
        if fields[name] not in (None, False, ["text"]):
            raise NotOffered(f"`{name}` is not offered: {missing[name]}", param=name)


def parse_extension(value: Any, limits: Limits) -> Extension:
    """The `breakeven` object of a request. Raises BadRequest naming the field."""
    if value is None:
        return _NO_EXTENSION
    if not isinstance(value, dict):
        raise BadRequest("`breakeven` must be an object", param="breakeven")
    if unknown := sorted(set(value) - set(_EXTENSION_FIELDS)):
        raise BadRequest(
            f"`breakeven` has no field {unknown[0]!r}; it takes {', '.join(_EXTENSION_FIELDS)}",
            param=f"breakeven.{unknown[0]}",
        )
    bounded(value, "top_k", 1, limits.max_top_k)
    score = value.get("min_score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not -1 <= score <= 1):
        raise BadRequest("`breakeven.min_score` must be a number from -1 to 1", param="breakeven.min_score")
    knowledge, conditions = value.get("knowledge"), value.get("filter")
    if knowledge is not None and not (isinstance(knowledge, str) and _KNOWLEDGE.fullmatch(knowledge)):
        raise BadRequest("`breakeven.knowledge` must be the name of a knowledge base", param="breakeven.knowledge")
    if conditions is not None and not isinstance(conditions, dict):
        raise BadRequest("`breakeven.filter` must be an object", param="breakeven.filter")
    return Extension(**value)


def with_system(messages: Sequence[Mapping[str, Any]], system: str) -> list[dict[str, Any]]:
    """The messages under a system prompt: put before the text of the first system message, or a new first message."""
    first = messages[0]
    if first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": system}, *map(dict, messages)]
    content = first.get("content") or ""
    joined = [{"type": "text", "text": system}, *content] if isinstance(content, list) else f"{system}\n\n{content}"
    return [{**first, "content": joined}, *map(dict, messages[1:])]


def text_length(messages: Sequence[Mapping[str, Any]]) -> int:
    """Characters of text in all messages."""
    contents = [message.get("content") or "" for message in messages]
    parts = [content if isinstance(content, list) else [{"text": content}] for content in contents]
    return sum(len(part.get("text") or "") for each in parts for part in each)


def chat_completion(model: str, text: str, n: int) -> dict[str, Any]:
    """A whole chat completion of `n` equal choices that cost no tokens."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"} for index in range(n)
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def chunk(head: Mapping[str, Any], choices: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    """A stream chunk with the id, created and model of `head`."""
    kept = {name: head[name] for name in ("id", "created", "model") if name in head}
    return {"object": "chat.completion.chunk", **kept, "choices": choices, **extra}


def as_stream(answer: Mapping[str, Any], extension: Mapping[str, Any], *, usage: bool) -> bytes:
    """A whole chat completion as an event stream: role and text, finish with `breakeven`, usage if asked for."""
    choices = answer["choices"]
    said = [{"index": each["index"], "delta": each["message"], "finish_reason": None} for each in choices]
    ends = [{"index": each["index"], "delta": {}, "finish_reason": each["finish_reason"]} for each in choices]
    events = [chunk(answer, said), chunk(answer, ends, breakeven=extension)]
    if usage:
        events.append(chunk(answer, [], usage=answer["usage"]))
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def embeddings_input(fields: Mapping[str, Any], model: str, dimensions: int) -> list[str]:
    """The texts of an embeddings request. Raises BadRequest for what this embedder cannot do."""
    texts = fields.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise BadRequest(
            "`input` must be a non-empty string or a list of them (token ids are not accepted)", param="input"
        )
    if len(texts) > 2048:
        raise BadRequest("`input` may hold at most 2048 texts", param="input")
    if fields.get("dimensions") not in (None, dimensions):
        raise BadRequest(f"{model} has {dimensions} dimensions; leave `dimensions` out", param="dimensions")
    if fields.get("encoding_format") not in (None, "float", "base64"):
        raise BadRequest("`encoding_format` must be float or base64", param="encoding_format")
    return texts
