"""How long after a document was changed an answer shows it.

A step of kind `change` keeps one document in a knowledge base of its own, changes a code in it, asks for the code at
once, and again until an answer has it. The clock runs from the moment the change is sent to the end of that answer, so
it has reading, cutting, embedding and indexing in it, and every answer that came too early or got the code wrong. Each
request is a row of the results file: those of one change share its `scheduled_s`, and an answer without the code says
so in `error`.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import numpy as np
import orjson

from benchmarks.economics.uncertainty import Bounds, bootstrap
from benchmarks.errors import EndpointError
from benchmarks.load.counters import Counters
from benchmarks.load.endpoint import look, open_session, price
from benchmarks.load.files import ResultsFile
from benchmarks.load.plan import LoadPlan
from benchmarks.load.reconcile import compare, complaints, settled
from benchmarks.load.record import LoadResult, RequestRow, describe
from benchmarks.load.request import Prepared, timed_request
from benchmarks.load.workload import Prompt, Workload

KNOWLEDGE = "experiment-change"
NOT_SHOWN = "the answer does not show the change"
# Fewer than this have no median with an interval.
LEAST_CHANGES = 5
_SOURCE = "storage-room.md"
_DOCUMENT = "# Storage room\n\nThe door code of the storage room is {code}.\n"
# A model that fails at one wording, always does at temperature zero.
_QUESTIONS = (
    "What is the door code of the storage room?",
    "Which code opens the door of the storage room?",
    "Tell me the door code of the storage room.",
)
_MOST_ASKED = 2 * len(_QUESTIONS)
_CHANGE = aiohttp.ClientTimeout(total=60)


@dataclass(frozen=True, slots=True)
class Changes:
    """What such runs say. `seconds`: the median over the changes that an answer showed, with its interval."""

    model: str
    made: int
    shown: int
    seconds: Bounds


def changes(runs: Sequence[LoadResult]) -> Changes | None:
    """None where fewer than LEAST_CHANGES were shown."""
    groups: dict[tuple[int, float], list[RequestRow]] = {}
    for number, run in enumerate(runs):
        for row in run.rows:
            groups.setdefault((number, row.scheduled_s), []).append(row)
    first = [next((row for row in rows if row.succeeded and row.error is None), None) for rows in groups.values()]
    taken = [row.e2e_s for row in first if row is not None]
    if len(taken) < LEAST_CHANGES:
        return None
    seconds = bootstrap(taken, lambda sample: float(np.median(sample)))
    return Changes(", ".join(runs[0].header.models), len(groups), len(taken), seconds)


def asked_codes() -> Workload:
    """The questions of such a run."""
    return Workload("changes of a document", lambda n: Prompt([_user(_QUESTIONS[n % len(_QUESTIONS)])]))


async def run_changes(plan: LoadPlan, file: ResultsFile, labels: dict[str, str | int | float]) -> LoadResult:
    """Makes `plan.requests` changes, one after another. EndpointError when documents cannot be changed there."""
    made = plan.requests or 0
    codes = random.Random(plan.seed).sample(range(1000, 10_000), made + 1)  # noqa: S311  # to be repeated
    rows: list[RequestRow] = []
    async with open_session(plan) as session:
        server = await look(session, plan)
        room = _Room(session, plan)
        try:
            await room.change(codes[0])
            for number in range(plan.warmup):
                await room.ask(codes[0], number, 0.0)
            counters = Counters(session, plan)
            began = await counters.start(required=plan.metrics is not None)
            in_force = next((found for page in began if (found := price(page))), None)
            header = dataclasses.replace(describe(plan, labels), server={**server, "price": in_force})
            file.begin(header)
            room.began = time.perf_counter()
            for code in codes[1:]:
                for row in await room.until_shown(code):
                    rows.append(row)
                    file.write(row)
            counted = await counters.stop(lambda page: settled(page, header, rows))
        finally:
            await room.leave()
    result = LoadResult(header, tuple(rows), counted)
    result = dataclasses.replace(result, errors=(*complaints(compare(result)), *_too_few(result)))
    file.end(result)
    return result


def _too_few(result: LoadResult) -> Sequence[str]:
    shown = sum(row.succeeded and row.error is None for row in result.rows)
    if shown >= LEAST_CHANGES:
        return ()
    return (f"an answer showed {shown} changes, of at least {LEAST_CHANGES}: a larger model may be needed",)


class _Room:
    """The document that changes, and who is asked about it."""

    def __init__(self, session: aiohttp.ClientSession, plan: LoadPlan) -> None:
        self._session, self._plan = session, plan
        self._headers = {"Authorization": f"Bearer {plan.tenants[0].key}"} if plan.tenants else {}
        self._asked = 0
        self._url = f"{plan.endpoint}/breakeven/knowledge/{KNOWLEDGE}/documents/{_SOURCE}"
        self._store = f"{plan.endpoint}/vector_stores/{KNOWLEDGE}"  # the same by OpenAI's name for it
        self.began = time.perf_counter()

    def clock(self) -> float:
        return time.perf_counter() - self.began

    async def until_shown(self, code: int) -> list[RequestRow]:
        """Changes the code and asks for it until an answer has it, or too often."""
        changed_s = self.clock()
        await self.change(code)
        rows: list[RequestRow] = []
        for number in range(_MOST_ASKED):
            rows.append(await self.ask(code, number, changed_s))
            if rows[-1].error is None:
                break
        return rows

    async def change(self, code: int) -> None:
        """EndpointError says why the document could not be changed."""
        body = _DOCUMENT.format(code=code).encode()
        try:
            async with self._session.put(self._url, data=body, headers=self._headers, timeout=_CHANGE) as response:
                status, said = response.status, (await response.text())[:200]
        except (aiohttp.ClientError, OSError) as error:
            status, said = 0, f"{type(error).__name__}: {error}"
        if status != HTTPStatus.OK:
            raise EndpointError(
                f"{self._plan.endpoint} does not let this step change a document ({status or 'no answer'}: {said}); "
                "it needs a Breakeven gateway, and an operator's key in BREAKEVEN_API_KEY if that has keys"
            )

    async def ask(self, code: int, number: int, changed_s: float) -> RequestRow:
        """One question about the code."""
        said: list[str] = []
        ask = self._plan.ask(number)
        body = {
            "model": ask.model,
            "messages": ask.prompt.messages,
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "breakeven": {"knowledge": KNOWLEDGE, "min_score": 0},
        }
        request = Prepared(self._asked, ask, orjson.dumps(body), lambda event: said.extend(_texts(event)))
        self._asked += 1
        row = await timed_request(self._session, self._plan, request, changed_s, self.clock)
        if row.succeeded and str(code) not in "".join(said):
            row = dataclasses.replace(row, error=NOT_SHOWN)
        return row

    async def leave(self) -> None:
        """The knowledge base is ours, not the endpoint's."""
        try:
            async with self._session.delete(self._store, headers=self._headers, timeout=_CHANGE):
                pass
        except (aiohttp.ClientError, OSError, asyncio.CancelledError):
            return  # what the run itself met is the better message


def _texts(event: Mapping[str, Any]) -> list[str]:
    deltas = [choice.get("delta") or {} for choice in event.get("choices") or () if isinstance(choice, dict)]
    return [text for delta in deltas if isinstance(text := delta.get("content"), str)]


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
