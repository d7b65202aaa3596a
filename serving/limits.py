"""What one request may ask for, so that it cannot hurt the others: fields that are refused, and fields with a most."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import orjson

from serving.errors import BadRequest

# Fields of vLLM's that let one request hurt all, reach files or hosts, or move ahead of others. Field -> why.
REFUSED: Mapping[str, str] = {
    "prompt_embeds": "embeddings are not accepted in place of text",
    "chat_template": "templates run code in the engine; the base model's own is used",
    "media_io_kwargs": "this is a text model",
    "mm_processor_kwargs": "this is a text model",
    "logits_processors": "they name code to load in the engine",
    "kv_transfer_params": "it is for the engine's own replicas",
    "ec_transfer_params": "it is for the engine's own replicas",
    "vllm_xargs": "it is for the engine's own plugins",
    "priority": "the gateway decides the order",
    "request_id": "the gateway numbers requests itself",
    "use_beam_search": "beam search multiplies the work of one request",
}
_SCORING = "it holds the whole prompt's logits in memory"
_SCHEMA_FIELDS = frozenset({"structured_outputs", "response_format", "guided_json", "guided_regex", "guided_grammar"})
# All that `check_costly` looks at.
COSTLY = frozenset(REFUSED) | _SCHEMA_FIELDS | {"n", "best_of", "prompt", "tool_choice", "echo", "logprobs"}
COSTLY |= {"top_logprobs", "prompt_logprobs"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for."""

    max_n: int
    max_logprobs: int
    max_schema_bytes: int
    max_top_k: int
    # Of a text that may be scored by `prompt_logprobs`; operators only, see `of`.
    max_scored_bytes: int = 0

    def of(self, role: str) -> "Limits":
        """What a caller of this role may ask for."""
        return self if role == "operator" or not self.max_scored_bytes else _unscored(self)


@cache
def _unscored(limits: Limits) -> Limits:
    return replace(limits, max_scored_bytes=0)


def check_costly(fields: Mapping[str, Any], limits: Limits) -> None:
    """Refuse fields that can hurt other requests, and values over the limits. Raises BadRequest."""
    if not COSTLY.isdisjoint(fields):  # most requests have none
        _check_costly(fields, limits)


def _check_costly(fields: Mapping[str, Any], limits: Limits) -> None:
    for name in common(REFUSED, fields):
        if fields[name] is not None and fields[name] is not False:
            why = REFUSED[name]
            raise BadRequest(f"`{name}` is not accepted: {why}", param=name, code="unsupported_parameter")
    _check_scoring(fields, limits)
    for name in ("n", "best_of"):
        bounded(fields, name, 1, limits.max_n)
    for name in ("top_logprobs", "logprobs"):
        if not isinstance(fields.get(name), bool):
            bounded(fields, name, 0, limits.max_logprobs)
    for name in common(_SCHEMA_FIELDS, fields):
        check_schema(fields, name, limits)
    if fields.get("tool_choice") not in (None, "auto", "none"):
        check_schema(fields, "tools", limits)  # a forced tool is a grammar too
    # Asking for no alternatives (0) still has the prompt scored.
    if fields.get("echo") and (asked := fields.get("logprobs")) is not None and asked is not False:
        raise BadRequest("`echo` with `logprobs` is not accepted: " + _SCORING, param="echo")
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) and len(prompt) > limits.max_n:
        raise BadRequest(f"`prompt` may hold at most {limits.max_n} prompts", param="prompt")


def common(names: Container[str], fields: Mapping[str, Any]) -> list[str]:
    """Those fields that are among `names`: of what is asked about here a request has few or none."""
    return [name for name in fields if name in names]


def _check_scoring(fields: Mapping[str, Any], limits: Limits) -> None:
    if (asked := fields.get("prompt_logprobs")) is None or asked is False:
        return
    # Of one short text, and of the tokens that it has: how perplexity is measured.
    bounded(fields, "prompt_logprobs", 0, 1)
    text = fields.get("prompt")
    if not isinstance(text, str) or len(text.encode("utf-8", "replace")) > limits.max_scored_bytes:
        raise BadRequest(
            f"`prompt_logprobs` is not accepted: {_SCORING}; operators may have one `prompt` of at most "
            "server.max_scored_bytes scored by POST /v1/completions",
            param="prompt_logprobs",
            code="unsupported_parameter",
        )


def check_schema(fields: Mapping[str, Any], name: str, limits: Limits) -> None:
    """Refuse a field that may hold a schema, if it is too large or nested too deep. Raises BadRequest."""
    value = fields.get(name)
    if value is None:
        return
    if name in ("structured_outputs", "response_format") and not isinstance(value, dict):
        raise BadRequest(f"`{name}` must be an object", param=name)
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise BadRequest(f"`{name}` cannot be passed on: {error}", param=name) from None
    if size > limits.max_schema_bytes:
        raise BadRequest(f"`{name}` is larger than {limits.max_schema_bytes} bytes", param=name)


def bounded(fields: Mapping[str, Any], name: str, low: int, high: int) -> None:
    """A whole number in [low, high], if it is there. Raises BadRequest."""
    value = fields.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"`{name}` must be a whole number from {low} to {high}", param=name)


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """An optional boolean. Raises BadRequest."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"`{name}` must be true or false", param=name)
    return bool(value)
