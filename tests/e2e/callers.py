"""Callers of a served model who never stop: every request is remembered, with its times and what came of it."""

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import openai

_PAUSE_S = 0.3
# A worker of vLLM's spins for a second after each request: without longer pauses it takes one of two cores for good.
_BESIDE_TRAINING_S = 4.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `adapter` is the version that answered; without one it failed, or was told to come again later."""

    began: float
    ended: float
    adapter: str | None
    error: str = ""
    turned_away: bool = False


class Callers:
    """Half of them stream; they ask less often while `training`. The SDK retries nothing: every failure is seen."""

    def __init__(self, client: openai.AsyncOpenAI, model: str, count: int = 2) -> None:
        self._client, self._model, self._count = client, model, count
        self.calls: list[Call] = []
        self.training = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep_asking(number)) for number in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    async def _keep_asking(self, who: int) -> None:
        number = 0
        while True:
            number += 1
            call = await self._ask(f"Can I call you on day {number}?", f"steady-{who}-{number % 20}", bool(who % 2))
            self.calls.append(call)
            await asyncio.sleep(_BESIDE_TRAINING_S if self.training else _PAUSE_S)

    async def _ask(self, text: str, user: str, stream: bool) -> Call:
        messages: Any = [{"role": "user", "content": text}]
        began = time.monotonic()
        try:
            answer: Any = await self._client.chat.completions.create(
                model=self._model, messages=messages, user=user, stream=stream
            )
            last = [chunk async for chunk in answer][-1] if stream else answer
            assert last.model == last.breakeven["adapter"]
            return Call(began, time.monotonic(), last.model)
        except openai.APIStatusError as error:
            later = error.status_code == 503 and "retry-after" in error.response.headers
            return Call(began, time.monotonic(), None, str(error), later)
        except openai.APIError as error:
            return Call(began, time.monotonic(), None, str(error))
