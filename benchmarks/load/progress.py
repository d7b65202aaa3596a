"""What a running load test shows: a bar on a terminal, a line every five seconds anywhere else."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.load.arrivals import Replay
from benchmarks.load.plan import LoadPlan

_REFRESH_S = 0.2


@dataclass
class Tally:
    """Counts of a run in progress; the sender counts up, the display reads."""

    sent: int = 0
    ended: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.sent} sent, {self.ended} ended, {self.failed} failed, {self.sent - self.ended} in flight"


async def show(
    tally: Tally, plan: LoadPlan, console: Console, clock: Callable[[], float], line_every_s: float = 5.0
) -> None:
    """Shows the tally until cancelled."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(line_every_s)
            console.print(f"bench: {clock():.0f} s, {tally}", highlight=False)
    counted = isinstance(plan.load, Replay) or plan.requests is not None
    total = len(plan.load.starts_s) if isinstance(plan.load, Replay) else plan.requests or plan.duration_s
    columns = (TextColumn("bench"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=total)
        while True:
            progress.update(task, completed=tally.ended if counted else clock(), description=str(tally))
            progress.refresh()
            await asyncio.sleep(_REFRESH_S)
