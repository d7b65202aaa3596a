"""SQL by execution: what a query returns is compared, never how it is written.

Queries come from a model, so they run on a read-only database that may be nothing but read: no file is attached, no
extension loaded, and time, rows and the length of a value are bounded.
"""

import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from benchmarks.adapter_eval.figures import share
from benchmarks.adapter_eval.questions import Question, TaskError
from benchmarks.adapter_eval.task import Answer, Scored, Task

_MAX_ROWS = 10_000
_MAX_VALUE_BYTES = 1_000_000
_INSTRUCTIONS_BETWEEN_LOOKS = 10_000
_DIGITS = 6
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_FENCE = re.compile(r"```(?:sql)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_ORDERED = re.compile(r"\border\s+by\b(?![^()]*\))", re.IGNORECASE)

Rows = list[tuple[Any, ...]]


class QueryFailed(Exception):
    """The query is wrong, or more than it may be; the message is SQLite's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql(Task):
    """`databases` is a folder of <database>.db; a question's answers are queries, any of which is right."""

    kind: Literal["sql"]
    databases: Path
    time_limit_s: Annotated[float, Field(gt=0)] = 5.0

    def questions(self) -> list[Question]:
        """Each with a right query and a database that is there. Raises TaskError."""
        found = Task.questions(self)
        self.require_answers(found)
        for question in found:
            if question.database is None or not self._path(question.database).is_file():
                raise TaskError(
                    f'{self.data.name}: no database {question.database!r} in {self.databases}: add "database"'
                )
        return found

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """The share of questions whose rows are right, of those whose right query finds something here.

        A right query without rows would agree with any wrong one that finds nothing.
        """
        verdicts, unusable = [], 0
        for question, answer in zip(questions, answers, strict=True):
            golds = [(query, rows) for query in question.answers if (rows := self._rows(question, query))]
            if not golds:
                unusable += 1
                continue
            said = self._rows(question, statement(answer.text))
            right = said is not None and any(_same(rows, said, ordered=is_ordered(query)) for query, rows in golds)
            verdicts.append((said is not None, right))
        if not verdicts:
            raise TaskError(f"{self.data.name}: no right query finds anything in the databases in {self.databases}")
        notes = (
            [f"{unusable} questions are left out: their own right query does not run or finds nothing here"]
            if unusable
            else []
        )
        ran, right_ones = zip(*verdicts, strict=True)
        return Scored([share("execution", right_ones), share("runs", ran)], {"left_out": unusable}, notes)

    def _path(self, database: str) -> Path:
        return self.databases / f"{Path(database).name}.db"

    def _rows(self, question: Question, query: str) -> Rows | None:
        try:
            return run_query(self._path(str(question.database)), query, self.time_limit_s)
        except QueryFailed:
            return None


def statement(text: str) -> str:
    """The query in an answer: its first fenced block, or all of it."""
    fenced = _FENCE.search(text)
    return (fenced.group(1) if fenced else text).strip()


def is_ordered(query: str) -> bool:
    """Whether the rows' order belongs to the answer: an ORDER BY outside parentheses."""
    return _ORDERED.search(query) is not None


def run_query(path: Path, query: str, time_limit_s: float) -> Rows:
    """The rows of one SELECT. Raises QueryFailed."""
    # Only as a URI can it be opened without ever being written.
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    deadline = time.monotonic() + time_limit_s
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        database.set_authorizer(_only_reading)
        database.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS_BETWEEN_LOOKS)
        cursor = database.execute(query)
        rows: Rows = cursor.fetchmany(_MAX_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError, OverflowError) as error:
        raise QueryFailed(str(error)) from None
    finally:
        database.close()
    if cursor.description is None:
        raise QueryFailed("no query")
    if len(rows) > _MAX_ROWS:
        raise QueryFailed(f"more than {_MAX_ROWS} rows")
    return rows


def _only_reading(action: int, _first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:
    allowed = action in _READING and second != "load_extension"
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _same(right: Rows, said: Rows, *, ordered: bool) -> bool:
    expected, given = list(map(_comparable, right)), list(map(_comparable, said))
    return expected == given if ordered else Counter(expected) == Counter(given)


def _comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_rounded(value) for value in row)


def _rounded(value: object) -> object:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return value
    return float(f"{float(value):.{_DIGITS}g}") if isinstance(value, float) else value
