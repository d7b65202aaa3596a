"""Answers on disk as they come, so that an evaluation that dies is continued and not begun again."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import orjson

from benchmarks.adapter_eval.questions import TaskError
from benchmarks.adapter_eval.task import Answer, Ask


def key_of(ask: Ask) -> str:
    """Equal requests have equal keys."""
    return hashlib.sha256(orjson.dumps([ask.path, ask.body], option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]


class Kept:
    """The answers of one model to one task. While it is unfinished the file is called <name>.partial.jsonl."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.partial.jsonl"
        self._done = folder / f"{name}.jsonl"
        self.answers: dict[str, Answer] = {}

    def __enter__(self) -> "Kept":
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab+")
        except OSError as error:
            raise TaskError(f"cannot write {self._path} ({error.strerror}): name another folder") from None
        whole = self._read()
        # A line that was being written when the last run died is written again.
        self._file.truncate(whole)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def good(self, key: str) -> bool:
        """Whether the request was answered."""
        return key in self.answers and self.answers[key].error is None

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer, at once."""
        self.answers[key] = answer
        self._file.write(orjson.dumps({"key": key, **asdict(answer)}, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()

    def finish(self) -> Path:
        """The run is complete: the next one asks everything anew. Returns where the answers are."""
        self._file.close()
        return self._path.replace(self._done)

    def _read(self) -> int:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                row = orjson.loads(line)
                key = row.pop("key")
                self.answers[key] = Answer(**row)
            except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
        return whole
