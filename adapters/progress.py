"""How a training run tells where it is: a line of JSON for programs, a bar for people.

The journal is append-only and outlives the run, so that whoever follows it may come late or come back: its last line
is the state, its lines are the history. After a kill the steps since the last checkpoint appear again.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from adapters.speed import Price

State = Literal["preparing", "training", "scoring", "paused", "cancelled", "succeeded", "failed"]
_LINE_EVERY_S = 1.0
_SAID_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the journal. `seconds` and `usd` count every attempt of this run; `epoch` is a fraction.

    `tokens` (processed, in this attempt) and `tokens_per_s` include prompts and leave padding out. `checkpoint` is the
    step of one that was just written. `usd` is None without a price.
    """

    state: State
    time: str = ""
    pid: int = 0
    step: int = 0
    steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    valid_loss: float | None = None
    tokens: int = 0
    tokens_per_s: float | None = None
    seconds: float = 0.0
    eta_s: float | None = None
    usd: float | None = None
    checkpoint: int | None = None
    version: str | None = None
    error: str | None = None


class Journal:
    """progress.jsonl of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self) -> tuple[Event, ...]:
        """Every whole line; a line that a kill cut off is left out."""
        if not self.path.is_file():
            return ()
        return tuple(Event(**json.loads(line)) for line in self.path.read_text().split("\n") if line.endswith("}"))

    def last(self) -> Event | None:
        """The state of the run; None before it began."""
        events = self.events()
        return events[-1] if events else None

    def append(self, event: Event) -> None:
        """One line, in one write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            # A kill may have cut the last line off.
            torn = b"" if file.read(1) in (b"\n", b"") else b"\n"
            stated = {name: value for name, value in asdict(event).items() if value is not None}
            file.write(torn + json.dumps(stated).encode() + b"\n")


class Reporter:
    """Tells one run's story to the journal and to the console."""

    def __init__(self, journal: Journal, console: Console, price: Price | None) -> None:
        self._journal = journal
        self._price = price
        self._console = console
        self._began = time.monotonic()
        before = journal.last()
        self._before = before.seconds if before else 0.0
        self._first: tuple[float, int, int] | None = None
        self._written = self._said = 0.0
        self._bar, self._tasks = _bar(console), dict[str, TaskID]()
        # An attempt that finds every step done has no loss of its own to tell.
        known = {name: getattr(before, name) for name in ("step", "steps", "epoch", "loss")} if before else {}
        self.now = Event(state="preparing", **known)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The bar is up meanwhile."""
        with self._bar:
            yield

    def state(self, state: State, **changes: Any) -> None:
        """The run is in another state, or has something to tell at once."""
        self._update(state=state, **changes)
        self._write()

    def step(self, step: int, steps: int, **changes: Any) -> None:
        """A training step has ended. Its line may be left out when lines come too fast."""
        self._update(state="training", step=step, steps=steps, **changes)
        if self._first is None:
            # Without the first step, which also pays for the warming up of libraries.
            self._first = (time.monotonic(), step, self.now.tokens)
        elif (passed := time.monotonic() - self._first[0]) > 0 and step > self._first[1]:
            speed = (self.now.tokens - self._first[2]) / passed
            self._update(tokens_per_s=speed, eta_s=(steps - step) * passed / (step - self._first[1]))
        if time.monotonic() - self._written >= _LINE_EVERY_S or step == steps:
            self._write()
        self.advance("training", step, steps, self._note())

    @property
    def steps_timed(self) -> int:
        """How many steps `now.tokens_per_s` was measured over."""
        return self.now.step - self._first[1] if self._first else 0

    def advance(self, label: str, done: int, total: int, note: str = "") -> None:
        """Move the bar called `label`; where there is no terminal, say it now and then."""
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(label, total=total, note=note)
        self._bar.update(self._tasks[label], completed=done, total=total, note=note)
        if not self._console.is_terminal and (time.monotonic() - self._said >= _SAID_EVERY_S or done == total):
            self._said = time.monotonic()
            self._console.print(f"{label}: {done} of {total}  {note}", markup=False)

    def _note(self) -> str:
        now = self.now
        parts = [f"loss {now.loss:.3f}"] if now.loss is not None else []
        parts += [f"{now.tokens_per_s:.0f} tokens/s"] if now.tokens_per_s is not None else []
        parts += [f"${now.usd:.4f}"] if now.usd is not None else []
        return "  ".join(parts)

    def _update(self, **changes: Any) -> None:
        seconds = self._before + time.monotonic() - self._began
        usd = float(self._price.per_hour) * seconds / 3600 if self._price else None
        self.now = replace(self.now, **{"seconds": round(seconds, 2), "usd": usd, "pid": os.getpid()} | changes)

    def _write(self) -> None:
        self._written = time.monotonic()
        self._journal.append(replace(self.now, time=datetime.now(UTC).isoformat(timespec="milliseconds")))
        self.now = replace(self.now, checkpoint=None)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
