"""The load generator: drives an OpenAI endpoint in a closed loop or an open one and keeps the raw timings.

Closed loop: N users who each wait for their answer before asking again, so the load falls when the server slows down.
Open loop: requests start when a Poisson clock says so, whatever the server does; latency counts from that time, so a
server (or a generator) that falls behind cannot hide it.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path

import aiohttp
from rich.console import Console

from benchmarks.errors import EndpointError
from benchmarks.load.plan import LoadPlan
from benchmarks.load.progress import Tally, show
from benchmarks.load.record import LoadResult, RequestRow, RowFile, RunHeader, describe
from benchmarks.load.request import timed_request
from benchmarks.load.summary import Summary, summarise
from benchmarks.load.tables import print_summary
from benchmarks.load.workload import poisson_arrivals

# A refused connection fails in microseconds: without a pause, users of a dead server would fill the disk with rows.
_PAUSE_AFTER_REFUSAL_S = 0.5

Keep = Callable[[RequestRow], None]


def bench(plan: LoadPlan, out: Path | None = None, console: Console | None = None) -> Summary:
    """Runs the plan, stores the raw rows in `out` if given, prints and returns the summary.

    Raises BenchmarkError, whose message is for the user.
    """
    header = describe(plan)
    with RowFile(out, header) if out else contextlib.nullcontext() as rows:
        result = asyncio.run(run_load(plan, console or Console(stderr=True), rows.write if rows else None, header))
    summary = summarise(result)
    print_summary(summary, console)
    return summary


async def run_load(
    plan: LoadPlan, console: Console | None = None, keep: Keep | None = None, header: RunHeader | None = None
) -> LoadResult:
    """Runs the plan and returns one row per request sent, in the order they ended.

    `console` shows progress (None: silent); `keep` is given each row as it ends. EndpointError when there is nothing to
    drive; once the run has begun, failures are rows.
    """
    header = header or describe(plan)
    rows: list[RequestRow] = []
    async with _session(plan) as session:
        await _check_endpoint(session, plan)
        run = _Run(plan, session, [rows.append, *([keep] if keep else [])])
        async with _shown(run, console):
            await (run.closed_loop() if plan.rate is None else run.open_loop(plan.rate))
    return LoadResult(header, tuple(rows))


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

    async def closed_loop(self) -> None:
        indices = itertools.count()
        async with asyncio.TaskGroup() as users:
            for _ in range(self.plan.concurrency or 1):
                users.create_task(self._user(indices))

    async def _user(self, indices: "itertools.count[int]") -> None:
        while not self._over(at_s := self.clock(), index := next(indices)):
            row = await self._send(index, at_s)
            if row.outcome == "connection_error":
                await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)

    async def open_loop(self, rate: float) -> None:
        async with asyncio.TaskGroup() as requests:
            for index, at_s in enumerate(poisson_arrivals(rate, self.plan.seed)):
                if self._over(at_s, index):
                    break
                await asyncio.sleep(at_s - self.clock())
                requests.create_task(self._send(index, at_s))

    def _over(self, at_s: float, index: int) -> bool:
        if self.plan.requests is not None:
            return index >= self.plan.requests
        return at_s >= (self.plan.duration_s or 0)

    async def _send(self, index: int, at_s: float) -> RequestRow:
        self.tally.sent += 1
        row = await timed_request(self._session, self.plan, index, at_s, self.clock)
        self.tally.ended += 1
        self.tally.failed += not row.succeeded
        for keep in self._keep:
            keep(row)
        return row


def _session(plan: LoadPlan) -> aiohttp.ClientSession:
    """Keep-alive connections, always more of them allowed than requests at once: a pool must never hold one back."""
    headers = {"Content-Type": "application/json"}
    if plan.api_key:
        headers["Authorization"] = f"Bearer {plan.api_key}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=plan.concurrency + 8 if plan.concurrency else 0, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=plan.timeout_s),
        headers=headers,
    )


async def _check_endpoint(session: aiohttp.ClientSession, plan: LoadPlan) -> None:
    """One look at /models, so that a wrong URL, key or model name is one clear line and not a run of failures."""
    try:
        async with session.get(f"{plan.endpoint}/models", timeout=aiohttp.ClientTimeout(total=10)) as response:
            status = response.status
            listing = await response.json(content_type=None) if status == HTTPStatus.OK else {}
    except (aiohttp.ClientError, OSError) as error:
        reason = "no answer within 10 s" if isinstance(error, TimeoutError) else str(error)
        raise EndpointError(
            f"cannot reach {plan.endpoint} ({reason}); start the server with `make serve`, or give its --url"
        ) from error
    except ValueError as error:
        raise EndpointError(f"{plan.endpoint} does not speak OpenAI's API; --url must end in /v1") from error
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise EndpointError(f"{plan.endpoint} refused the key (HTTP {status}); give one with --api-key")
    models = [str(entry.get("id")) for entry in listing.get("data", [])] if isinstance(listing, dict) else []
    if models and plan.model not in models:
        raise EndpointError(f"{plan.endpoint} has no model {plan.model!r}; it serves {', '.join(models)}")


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
