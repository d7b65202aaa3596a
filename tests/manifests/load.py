"""Clients that ask all the time, and what became of every single request."""

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import aiohttp

_LIMIT_S = 60.0
# An answer that ends by itself or at its limit. vLLM has another word for one that its own end cut short.
_WHOLE = ("stop", "length")
# `broken`: the connection ended, or the stream did, without a word about it.
Kind = Literal["complete", "error", "broken"]


@dataclass(frozen=True)
class Outcome:
    """How a request ended; `said` is the error, `usd` what a complete one cost."""

    kind: Kind
    began: float
    status: int
    said: str = ""
    request_id: str = ""
    usd: str = ""


@dataclass
class Load:
    """`rate` requests a second, every second of them a stream, every third on a connection of its own; `most` in all.

    Use it as a context; `outcomes` is whole after that. `more` is in every request.
    """

    url: str
    key: str
    model: str = "base"
    rate: float = 10
    prompt: str = "How many days of annual leave do I get?"
    most: int = sys.maxsize
    more: Mapping[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # The last request may take its whole limit: who left before it would not see that it hung.
        self._thread.join(_LIMIT_S + 10)
        assert not self._thread.is_alive(), "requests that never end"

    def counts(self) -> Counter[str]:
        """By kind."""
        return Counter(each.kind for each in self.outcomes)

    def odd(self) -> list[Outcome]:
        """Whatever is not complete."""
        return [each for each in self.outcomes if each.kind != "complete"]

    async def _run(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        limit = aiohttp.ClientTimeout(total=_LIMIT_S)
        fresh = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=limit) as keeping,
            aiohttp.ClientSession(headers=headers, timeout=limit, connector=fresh) as closing,
            asyncio.TaskGroup() as group,
        ):
            number = 0
            while number < self.most and not self._ended.is_set():
                http = closing if number % 3 == 0 else keeping
                group.create_task(self._ask(http, stream=number % 2 == 0))
                number += 1
                await asyncio.sleep(1 / self.rate)

    async def _ask(self, http: aiohttp.ClientSession, *, stream: bool) -> None:
        message = {"role": "user", "content": self.prompt}
        body = {"model": self.model, "messages": [message], "stream": stream, "max_tokens": 20, **self.more}
        self.outcomes.append(await ask(http, self.url, body))


async def ask(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Outcome:
    """One request, read to its end."""
    began, status = time.monotonic(), 0
    try:
        async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
            status = answer.status
            data = await answer.read()
        return _judged(began, status, answer.headers, data, stream=bool(body.get("stream")))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Outcome("broken", began, status, repr(error))


def _judged(began: float, status: int, headers: Mapping[str, str], data: bytes, *, stream: bool) -> Outcome:
    request_id = headers.get("x-request-id", "")
    if status != 200:
        error = json.loads(data)["error"]  # anything but an error object fails the test
        assert error["message"], data
        assert status != 503 or int(headers["Retry-After"]) >= 1, data
        return Outcome("error", began, status, f"{error['code']}: {error['message']}", request_id)
    if not stream:
        answer = json.loads(data)
        assert answer["choices"][0]["finish_reason"] in _WHOLE, data
        return Outcome("complete", began, status, "", request_id, answer["breakeven"]["cost"]["allocation_usd"])
    events = [line[6:] for line in data.split(b"\n\n") if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        last = json.loads(events[-1]) if events else {}
        if error := last.get("error"):
            return Outcome("error", began, status, f"{error['code']}: {error['message']}", request_id)
        return Outcome("broken", began, status, "the stream ended without a word", request_id)
    found = next(chunk for event in reversed(events[:-1]) if "breakeven" in (chunk := json.loads(event)))
    assert found["choices"][0]["finish_reason"] in _WHOLE, found
    return Outcome("complete", began, status, "", request_id, found["breakeven"]["cost"]["allocation_usd"])
