"""One chat completion, timed from outside: send it, note when each piece arrives, judge how it ended.

Nothing raises for a request that goes wrong: a failure is a row too, with its outcome.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from benchmarks.load.plan import Ask, LoadPlan
from benchmarks.load.record import Outcome, RequestRow

Clock = Callable[[], float]  # seconds since the run began
OnEvent = Callable[[dict[str, Any]], None]
Posting = AbstractAsyncContextManager[aiohttp.ClientResponse]

_CONTENT = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls")


@dataclass
class _Answer:
    """What has been seen of one response so far."""

    first_byte_s: float | None = None
    chunks_s: list[float] = field(default_factory=list)
    status: int | None = None
    error: str | None = None
    done: bool = False
    finish_reason: str | None = None
    abstained: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost: dict[str, Any] | None = None
    on_event: OnEvent | None = None


@dataclass(frozen=True)
class Prepared:
    """A request whose body is made: that takes milliseconds, which must not count as the server's. `on_event` sees
    what comes back, each event of a stream."""

    index: int
    ask: Ask
    body: bytes
    on_event: OnEvent | None = None


def prepare(plan: LoadPlan, index: int) -> Prepared:
    """Request number `index`, ready to be sent. May be called in any thread."""
    ask = plan.ask(index)
    return Prepared(index, ask, orjson.dumps(_body(plan, ask)))


async def timed_request(
    session: aiohttp.ClientSession, plan: LoadPlan, request: Prepared, scheduled_s: float, clock: Clock
) -> RequestRow:
    """Sends a request and follows it to its end."""
    seen, tenant = _Answer(on_event=request.on_event), request.ask.tenant
    headers = {"Authorization": f"Bearer {tenant.key}"} if tenant else {}
    sent_s = clock()
    posting = session.post(f"{plan.endpoint}/chat/completions", data=request.body, headers=headers)
    outcome = await _outcome(posting, plan, seen, clock)
    return RequestRow(
        index=request.index,
        scheduled_s=_tick(scheduled_s),
        sent_s=_tick(sent_s),
        first_byte_s=None if seen.first_byte_s is None else _tick(seen.first_byte_s),
        chunks_s=tuple(map(_tick, seen.chunks_s)),
        last_s=_tick(clock()),
        status=seen.status,
        outcome=outcome,
        error=seen.error,
        finish_reason=seen.finish_reason,
        prompt_tokens=seen.prompt_tokens,
        completion_tokens=seen.completion_tokens,
        cached_tokens=seen.cached_tokens,
        cost=seen.cost,
        model=request.ask.model,
        tenant=tenant.name if tenant else None,
    )


def _tick(seconds: float) -> float:
    return round(seconds, 5)


def _body(plan: LoadPlan, ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": ask.model,
        "messages": ask.prompt.messages,
        "max_tokens": ask.max_tokens,
        "stream": plan.stream,
    }
    if plan.stream:
        body["stream_options"] = {"include_usage": True}
    if plan.ignore_eos or ask.prompt.max_tokens is not None:
        body["ignore_eos"] = True
    return body


async def _outcome(posting: Posting, plan: LoadPlan, seen: _Answer, clock: Clock) -> Outcome:
    try:
        async with posting as response:
            seen.first_byte_s = clock()
            seen.status = response.status
            if response.status != HTTPStatus.OK:
                seen.error = (await response.text())[:300]
                return "http_error"
            if plan.stream:
                return await _follow_stream(response, seen, clock)
            return _judge_body(await response.read(), seen)
    except TimeoutError:
        seen.error = f"no end within {plan.timeout_s:g} s"
        return "timeout"
    except aiohttp.ClientPayloadError as error:
        seen.error = str(error)[:300]
        return "truncated"
    except (aiohttp.ClientError, OSError) as error:
        seen.error = f"{type(error).__name__}: {error}"[:300]
        return "connection_error" if seen.status is None else "truncated"


async def _follow_stream(response: aiohttp.ClientResponse, seen: _Answer, clock: Clock) -> Outcome:
    # Read to the end of the body even after [DONE]: only a connection read to its end goes back to the pool.
    async for arrived_s, data in _events(response.content, clock):
        if data == b"[DONE]":
            seen.done = True
            continue
        event = _object(data)
        if event is None:
            seen.error = f"not a JSON object: {data[:100]!r}"
            return "bad_response"
        if event.get("error"):
            seen.error = str(event["error"])[:300]
            return "error_event"
        if _note(event, "delta", seen):
            seen.chunks_s.append(arrived_s)
    if not seen.done or seen.finish_reason is None:
        seen.error = "the stream ended without " + ("a finish reason" if seen.done else "data: [DONE]")
        return "truncated"
    return "abstained" if seen.abstained else "answered"


async def _events(stream: aiohttp.StreamReader, clock: Clock) -> AsyncIterator[tuple[float, bytes]]:
    """The data of every server-sent event, with the arrival time of the read that completed it."""
    rest = b""
    async for block in stream.iter_any():
        arrived_s = clock()
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield arrived_s, line[5:].strip()
    if rest.startswith(b"data:"):
        yield clock(), rest[5:].strip()


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _judge_body(raw: bytes, seen: _Answer) -> Outcome:
    body = _object(raw)
    if body is None or not body.get("choices"):
        seen.error = f"not a chat completion: {raw[:100]!r}"
        return "bad_response"
    _note(body, "message", seen)
    return "abstained" if seen.abstained else "answered"


def _note(event: dict[str, Any], part: str, seen: _Answer) -> bool:
    """Keeps the usage, cost and finish reason that an event carries; says whether it carries generated content."""
    if seen.on_event is not None:
        seen.on_event(event)
    usage = event.get("usage")
    if isinstance(usage, dict):
        seen.prompt_tokens = usage.get("prompt_tokens")
        seen.completion_tokens = usage.get("completion_tokens")
        details = usage.get("prompt_tokens_details")
        seen.cached_tokens = details.get("cached_tokens") if isinstance(details, dict) else None
    extension = event.get("breakeven")
    if isinstance(extension, dict):
        _note_extension(extension, seen)
    choices = [choice for choice in event.get("choices") or () if isinstance(choice, dict)]
    for choice in choices:
        seen.finish_reason = choice.get("finish_reason") or seen.finish_reason
    return any(_has_content(choice.get(part)) for choice in choices)


def _note_extension(extension: dict[str, Any], seen: _Answer) -> None:
    seen.abstained = seen.abstained or bool(extension.get("abstained"))
    cost = extension.get("cost")
    seen.cost = cost if _is_cost(cost) else seen.cost


def _has_content(piece: object) -> bool:
    return isinstance(piece, dict) and any(piece.get(key) for key in _CONTENT)


def _is_cost(value: object) -> bool:
    """Whether the amounts that every `breakeven.cost` object has are there, as decimal strings."""
    if not isinstance(value, dict):
        return False
    try:
        amounts = [Decimal(value[key]) for key in ("allocation_usd", "usage_usd")]
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return False
    return all(amount.is_finite() for amount in amounts)
