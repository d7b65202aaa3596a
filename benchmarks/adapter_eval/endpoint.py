"""The client: asks an OpenAI endpoint, several requests at a time, with patience for one that is busy or restarting."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from rich.progress import Progress

from benchmarks.adapter_eval.kept import Kept, key_of
from benchmarks.adapter_eval.task import Answer, Ask
from benchmarks.errors import EndpointError

_TRIES = 8
_LONGEST_PAUSE_S = 30.0
_TIMEOUT_S = 600.0
# The request itself is refused: asking again would not help, and the others may do well.
_REFUSED = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` ends in /v1."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    # Before the second try of a request; each further pause is twice as long.
    pause_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Offered:
    """A served model as the endpoint lists it; without our extension only its id is known."""

    id: str
    adapter: str | None = None
    # Without documents, a canary beside it, or a router.
    alone: bool = False


async def offered(endpoint: Endpoint) -> list[Offered]:
    """What the endpoint serves. Raises EndpointError."""
    async with _session(endpoint) as http:
        try:
            async with http.get(f"{endpoint.url}/models") as response:
                found = await response.json(content_type=None)
                if response.status in (401, 403):
                    raise EndpointError(f"{endpoint.url} refused the key: set BREAKEVEN_API_KEY")
                return [_offered(model) for model in found["data"]]
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            raise EndpointError(
                f"{endpoint.url} does not list its models ({error}): start it with `breakeven serve`, or give --url"
            ) from None


async def ask_all(endpoint: Endpoint, model: str, asks: Sequence[Ask], kept: Kept, progress: Progress) -> list[Answer]:
    """An answer to each, in order. What `kept` has is not asked again, unless it was refused. Raises EndpointError."""
    missing = {key: ask for ask in asks if not kept.good(key := key_of(ask))}
    task = progress.add_task(model, total=len(asks), completed=len(asks) - len(missing))
    waiting = iter(missing.items())
    async with _session(endpoint) as http:

        async def user() -> None:
            for key, ask in waiting:
                kept.add(key, await _ask(http, endpoint, ask.path, {"model": model, **ask.body}))
                progress.advance(task)

        try:
            async with asyncio.TaskGroup() as users:
                for _ in range(endpoint.concurrency):
                    users.create_task(user())
        except* EndpointError as group:
            raise EndpointError(
                f"{group.exceptions[0]}; {len(kept.answers)} answers are kept: run the same command again to continue"
            ) from None
    progress.update(task, completed=len(asks))
    return [kept.answers[key_of(ask)] for ask in asks]


async def _ask(http: aiohttp.ClientSession, endpoint: Endpoint, path: str, body: dict[str, Any]) -> Answer:
    url, data, reason = endpoint.url + path, orjson.dumps(body), ""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(min(_LONGEST_PAUSE_S, endpoint.pause_s * 2 ** (attempt - 1)))
        began = time.perf_counter()
        try:
            async with http.post(url, data=data) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            continue
        if response.status == 200:
            return _answer(orjson.loads(raw), time.perf_counter() - began)
        reason = f"HTTP {response.status}: {raw[:300].decode('utf-8', 'replace')}"
        if response.status in _REFUSED:
            return Answer("", time.perf_counter() - began, error=reason)
        if response.status != 429 and response.status < 500:
            break
    raise EndpointError(f"{url} does not answer ({reason})")


def _answer(body: dict[str, Any], seconds: float) -> Answer:
    choice, extension = body["choices"][0], body.get("breakeven") or {}
    text = choice["message"].get("content") if "message" in choice else choice.get("text")
    cost = extension.get("cost") or {}
    logprob, scored = _scored(choice.get("prompt_logprobs"))
    return Answer(
        text or "",
        round(seconds, 6),
        (body.get("usage") or {}).get("completion_tokens") or 0,
        cost.get("usage_usd"),
        bool(extension.get("simulated")),
        logprob,
        scored,
        extension.get("adapter"),
    )


def _scored(tokens: list[dict[str, dict[str, float]] | None] | None) -> tuple[float | None, int]:
    # One entry per token, of which the first has none: nothing comes before it.
    known = [next(iter(token.values()))["logprob"] for token in tokens or () if token]
    return (sum(known), len(known)) if known else (None, 0)


def _offered(model: dict[str, Any]) -> Offered:
    binds = model.get("breakeven") or {}
    alone = bool(binds) and not any(binds.get(part) for part in ("knowledge", "canary", "router"))
    return Offered(str(model["id"]), binds.get("adapter"), alone)


def _session(endpoint: Endpoint) -> aiohttp.ClientSession:
    headers = {"Content-Type": "application/json"}
    if endpoint.api_key:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
