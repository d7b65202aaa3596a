"""`breakeven ingest`: brings a knowledge base up to date with a file or a folder, once or for as long as it runs.

Every pass compares the folder with what the last one saw, so that an interrupted pass is continued by the next one: of
a document that is stored already only the hash is computed.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import watchfiles
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from retrieval.errors import RetrievalError, UnreadableDocument
from retrieval.folder import read, walk
from serving.access import Documents
from serving.remote import RemoteError

_DEBOUNCE_MS = 300
_TICK_MS = 1000
_LINE_S = 10.0  # between lines of progress where there is no terminal
_BATCH, _BATCH_BYTES = 256, 2**18  # whichever is full first; a second or two of embedding

_Signature = tuple[int, int, int]
_Found = tuple[str, Path, _Signature]


@dataclass(frozen=True, slots=True)
class Job:
    """What goes where. `delete`: the knowledge base is to hold `path` and nothing else. `max_bytes`: of a document."""

    path: Path
    knowledge: str
    groups: tuple[str, ...]
    max_bytes: int
    delete: bool = False


@dataclass(slots=True)
class Pass:
    """What one pass did. `counts` by status: added, updated, unchanged, removed, failed."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[UnreadableDocument] = field(default_factory=list)
    unsupported: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The summary, for people: failures by file, then what was left out, then the counts."""
        lines = [f"failed: {failure}" for failure in self.failures]
        if self.unsupported:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.unsupported.items()))
            lines.append(f"left out, of types that are not supported: {kinds}")
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items()))
        rate = f" ({self.counts.total() / self.seconds:.1f} documents/s)" if self.seconds > 0 else ""
        return [*lines, f"{counts or 'no readable documents'} in {self.seconds:.1f} s{rate}"]


class Ingestion:
    """One job. Not thread-safe."""

    def __init__(self, job: Job, documents: Documents, console: Console) -> None:
        self._job = job
        self._documents = documents
        self._console = console
        self._seen: dict[str, _Signature] = {}
        self._trouble = ""
        self.last = Pass()

    def run(self) -> Pass:
        """One pass over what changed since the last. If it raises RemoteError or RetrievalError, see `last`."""
        done = self.last = Pass()
        started = time.perf_counter()
        try:
            listing = walk(self._job.path)
            done.unsupported = listing.unsupported
            for refused in listing.refused:
                self._failed(refused)
            present = {source for source, _ in listing.files} | {refused.source for refused in listing.refused}
            gone = set(self._seen) - present
            if self._job.delete and not self._seen:
                gone = self._surplus(present)
            changed = [
                (source, file, signature)
                for source, file in listing.files
                if (signature := _signature(file)) != self._seen.get(source)
            ]
            with _Counting(self._console, "ingesting", len(changed)) as counting:
                for batch in self._batches(changed):
                    self._put(batch)
                    counting.advance(len(batch))
            for source in sorted(gone):
                self._documents.remove(self._job.knowledge, source)
                self._seen.pop(source, None)
                done.counts["removed"] += 1
        finally:
            done.seconds = time.perf_counter() - started
        return done

    def watch(self, stop: threading.Event) -> None:
        """Passes whenever something changes, the first at once; ends after `stop`, or with KeyboardInterrupt."""
        root = self._job.path if self._job.path.is_dir() else self._job.path.parent
        changes = watchfiles.watch(
            root,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            stop_event=stop,
        )
        next(changes)  # it watches from here on, so that nothing is missed that changes during the first pass
        again = not self._try()
        for events in changes:
            if events or again:
                again = not self._try()

    def _try(self) -> bool:
        try:
            done = self.run()
        except (RemoteError, RetrievalError) as error:
            if str(error) != self._trouble:
                self._console.print(f"{error}; trying again every second", markup=False)
            self._trouble = str(error)
            return False
        self._trouble = ""
        if done.counts:
            for line in done.lines():
                self._console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False)
        return True

    def _batches(self, changed: Sequence[_Found]) -> Iterator[list[tuple[_Found, bytes | UnreadableDocument]]]:
        """What is stored together: an interruption costs one batch, and so much is in memory at a time."""
        batch: list[tuple[_Found, bytes | UnreadableDocument]] = []
        room = _BATCH_BYTES
        for found in changed:
            data: bytes | UnreadableDocument
            try:
                data = read(found[0], found[1], self._job.max_bytes)
                room -= len(data)
            except UnreadableDocument as error:
                data = error
            batch.append((found, data))
            if len(batch) == _BATCH or room <= 0:
                yield batch
                batch, room = [], _BATCH_BYTES
        if batch:
            yield batch

    def _put(self, batch: Sequence[tuple[_Found, bytes | UnreadableDocument]]) -> None:
        files = [(found[0], data) for found, data in batch if isinstance(data, bytes)]
        done = iter(self._documents.put(self._job.knowledge, files, self._job.groups) if files else [])
        for (source, _, signature), data in batch:
            result = next(done) if isinstance(data, bytes) else data
            if isinstance(result, UnreadableDocument):
                self._failed(result)
            else:
                self.last.counts[result] += 1
            self._seen[source] = signature

    def _failed(self, error: UnreadableDocument) -> None:
        self.last.counts["failed"] += 1
        self.last.failures.append(error)

    def _surplus(self, present: set[str]) -> set[str]:
        if not present:
            raise UnreadableDocument(
                str(self._job.path), "it holds no documents; nothing is deleted, in case it is not mounted"
            )
        return self._documents.sources(self._job.knowledge) - present


def _signature(file: Path) -> _Signature:
    try:
        found = file.stat()
    except OSError:  # gone; reading it will say so
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class _Counting:
    """Progress of work on a known number of documents: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console, self._what, self._total = console, what, total
        self._done = 0
        self._started = self._printed = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task(what, total=total, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, by: int = 1) -> None:
        """So many more are done."""
        self._done += by
        now = time.monotonic()
        speed = self._done / max(now - self._started, 1e-6)
        left = timedelta(seconds=round((self._total - self._done) / speed))
        rate = f"{speed:.1f} documents/s, {left} left"
        self._bar.update(self._task, advance=by, rate=rate)
        if not self._console.is_terminal and now - self._printed > _LINE_S:
            self._printed = now
            self._console.print(f"{self._what}: {self._done} of {self._total}, {rate}", markup=False)
