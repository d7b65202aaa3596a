"""What is asked: JSON lines of conversations.

A line is `{"messages": [...]}` as in training data. If the last message is the assistant's, it is the right answer and
is not sent; `"answers": [...]` names several right ones. `"database"` names the one that a SQL question is about.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from benchmarks.errors import BenchmarkError

_SHOWN = 10
Text = Annotated[str, Field(min_length=1)]


class TaskError(BenchmarkError):
    """A task file or its data cannot be used; the message says where and how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    role: Literal["system", "user", "assistant"]
    content: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    __pydantic_config__ = ConfigDict(extra="forbid")

    messages: Annotated[tuple[_Message, ...], Field(min_length=1)]
    answers: tuple[Text, ...] = ()
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Messages to send, ending with the user's, and the right answers, if any are stated."""

    messages: tuple[dict[str, str], ...]
    answers: tuple[str, ...] = ()
    database: str | None = None


_LINE = TypeAdapter(_Line)


def read_questions(path: Path, system: str | None = None) -> list[Question]:
    """The questions of a file; `system` is put before conversations that have no system message.

    Raises TaskError that names every bad line.
    """
    found, wrong = [], []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            found.append(_question(_LINE.validate_python(json.loads(line)), system))
        except ValidationError as error:
            first = error.errors()[0]
            wrong.append(f"  line {number}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        except ValueError as error:
            wrong.append(f"  line {number}: {error}")
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise TaskError(f"{path.name}: correct these lines, then run again\n" + "\n".join(wrong[:_SHOWN]) + more)
    if not found:
        raise TaskError(f"{path.name} holds no question: write one conversation a line")
    return found


def read_lines(path: Path) -> list[str]:
    """Raises TaskError if there is no such file of text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the file name in the task file") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path} is not UTF-8 text: save it as UTF-8") from None


def _question(line: _Line, system: str | None) -> Question:
    messages: list[dict[str, Any]] = [{"role": each.role, "content": each.content} for each in line.messages]
    answers = line.answers
    if messages[-1]["role"] == "assistant":
        answers = (messages.pop()["content"], *answers)
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("must end with a message of role user, or with the right answer after it")
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return Question(tuple(messages), answers, line.database)
