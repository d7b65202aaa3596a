"""The load generator: drives an OpenAI endpoint in a closed loop, an open one or a replay, and keeps the raw timings.

Closed loop: N users who each wait for their answer before asking again, so the load falls when the server slows down.
Open loop and replay: requests start when the clock says so, whatever the server does; latency counts from that time, so
a server (or a generator) that falls behind cannot hide it.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
from rich.console import Console

from benchmarks.load.arrivals import Closed, Open, Replay, starts
from benchmarks.load.counters import Counters
from benchmarks.load.endpoint import look, open_session, price
from benchmarks.load.files import ResultsFile
from benchmarks.load.plan import LoadPlan
from benchmarks.load.progress import Tally, show
from benchmarks.load.reconcile import compare, complaints, settled
from benchmarks.load.record import LoadResult, RequestRow, describe
from benchmarks.load.request import Prepared, prepare, timed_request

# A refused connection fails in microseconds: without a pause, users of a dead server would fill the disk with rows.
_PAUSE_AFTER_REFUSAL_S = 0.5
_AHEAD = 256  # requests prepared before they are due
_WARMUP_FROM = 1_000_000  # indices of warm-up requests: prompts that the run itself does not use

Keep = Callable[[RequestRow], None]


async def run_load(
    plan: LoadPlan,
    console: Console | None = None,
    file: ResultsFile | None = None,
    labels: dict[str, str | int | float] | None = None,
) -> LoadResult:
    """Runs the plan and returns one row per request sent, in the order they ended, with the servers' counters.

    `console` shows progress (None: silent); `file` is given each row as it ends. EndpointError when there is nothing to
    drive; once the run has begun, failures are rows, and disagreement with the servers' counters is the run's error.
    """
    rows: list[RequestRow] = []
    async with open_session(plan) as session:
        server = await look(session, plan)
        counters = Counters(session, plan)
        await _warm_up(plan, session)
        began = await counters.start(required=plan.metrics is not None)
        in_force = next((found for page in began if (found := price(page))), None)
        header = dataclasses.replace(describe(plan, labels), server={**server, "price": in_force})
        if file:
            file.begin(header)
        run = _Run(plan, session, [rows.append, *([file.write] if file else [])])
        async with _shown(run, console):
            await run.go()
        counted = await counters.stop(lambda page: settled(page, header, rows))
    result = LoadResult(header, tuple(rows), counted)
    result = dataclasses.replace(result, errors=complaints(compare(result)))
    if file:
        file.end(result)
    return result


async def _warm_up(plan: LoadPlan, session: aiohttp.ClientSession) -> None:
    async def one(index: int) -> None:
        request = await asyncio.to_thread(prepare, plan, index)
        await timed_request(session, plan, request, 0.0, time.perf_counter)

    if isinstance(plan.load, Replay):  # its prompts are counted
        await asyncio.gather(*(one(index % len(plan.load.starts_s)) for index in range(plan.warmup)))
    else:
        await asyncio.gather(*(one(_WARMUP_FROM + index) for index in range(plan.warmup)))


class _Run:
    """One run's clock, counters and two ways of sending."""

    def __init__(self, plan: LoadPlan, session: aiohttp.ClientSession, keep: list[Keep]) -> None:
        self.plan = plan
        self.tally = Tally()
        self._session = session
        self._keep = keep
        self._began = time.perf_counter()

    def clock(self) -> float:
        return time.perf_counter() - self._began

    async def go(self) -> None:
        load = self.plan.load
        await (self._closed_loop(load) if isinstance(load, Closed) else self._open_loop(load))

    async def _closed_loop(self, load: Closed) -> None:
        indices = itertools.count()
        self._began = time.perf_counter()
        async with asyncio.TaskGroup() as users:
            for _ in range(load.concurrency):
                users.create_task(self._user(indices))

    async def _user(self, indices: "itertools.count[int]") -> None:
        while not self._over(self.clock(), index := next(indices)):
            request = await asyncio.to_thread(prepare, self.plan, index)
            row = await self._send(request, self.clock())
            if row.outcome == "connection_error":
                await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)

    async def _open_loop(self, load: Open | Replay) -> None:
        async with asyncio.TaskGroup() as requests:
            ready: asyncio.Queue[tuple[float, Prepared] | None] = asyncio.Queue(_AHEAD)
            filled = asyncio.Event()
            requests.create_task(self._fill(ready, filled, self._due(load)))
            await filled.wait()
            self._began = time.perf_counter()
            while (due := await ready.get()) is not None:
                at_s, request = due
                await asyncio.sleep(at_s - self.clock())
                requests.create_task(self._send(request, at_s))

    def _due(self, load: Open | Replay) -> Iterator[tuple[int, float]]:
        for index, at_s in enumerate(starts(load, self.plan.seed)):
            if not isinstance(load, Replay) and self._over(at_s, index):
                return
            yield index, at_s

    async def _fill(
        self,
        ready: "asyncio.Queue[tuple[float, Prepared] | None]",
        filled: asyncio.Event,
        due: Iterator[tuple[int, float]],
    ) -> None:
        for index, at_s in due:
            await ready.put((at_s, await asyncio.to_thread(prepare, self.plan, index)))
            if ready.full():
                filled.set()
        filled.set()
        await ready.put(None)

    def _over(self, at_s: float, index: int) -> bool:
        if self.plan.requests is not None:
            return index >= self.plan.requests
        return at_s >= (self.plan.duration_s or 0)

    async def _send(self, request: Prepared, at_s: float) -> RequestRow:
        self.tally.sent += 1
        row = await timed_request(self._session, self.plan, request, at_s, self.clock)
        self.tally.ended += 1
        self.tally.failed += not row.succeeded
        for keep in self._keep:
            keep(row)
        return row


@contextlib.asynccontextmanager
async def _shown(run: _Run, console: Console | None) -> AsyncIterator[None]:
    if console is None:
        yield
        return
    display = asyncio.create_task(show(run.tally, run.plan, console, run.clock))
    try:
        yield
    finally:
        display.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await display
