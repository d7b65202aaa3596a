"""Reads chat data in OpenAI's fine-tuning format: one {"messages": [...]} object a line.

Every bad line is reported with its number before anything is trained: a data set is corrected in one go, not by
starting the training again for each mistake.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapters.errors import MalformedData, MalformedRecipe

Role = Literal["system", "user", "assistant"]
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        """The form that chat templates take."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and the line (from 1) it stands on."""

    line: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """`sha256` is that of the file's bytes."""

    path: Path
    examples: tuple[Example, ...]
    sha256: str


def load_chat(path: Path, last: Role) -> Dataset:
    """Read a JSONL file whose conversations all end with a message of role `last`; blank lines are skipped.

    `last` is "assistant" for training data and "user" for questions.
    Raises MalformedData, and MalformedRecipe when there is no such file.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MalformedRecipe(f"{path} cannot be read ({error.strerror}): check the file name in recipe.toml") from None
    examples: list[Example] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            examples.append(Example(number, _conversation(line, last)))
        except ValueError as error:
            problems.append((number, str(error)))
    if not examples and not problems:
        problems.append((1, "the file is empty; write one conversation a line"))
    if problems:
        raise MalformedData(path, problems)
    return Dataset(path, tuple(examples), hashlib.sha256(raw).hexdigest())


def _conversation(line: bytes, last: Role) -> tuple[Message, ...]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"not JSON{where}") from None
    if not isinstance(row, dict) or set(row) != {"messages"}:
        raise ValueError('must be an object with the one key "messages"')
    if not isinstance(row["messages"], list) or not row["messages"]:
        raise ValueError('"messages" must be a list with at least one message')
    messages = tuple(_message(position, item) for position, item in enumerate(row["messages"], start=1))
    if messages[-1].role != last:
        raise ValueError(f"must end with a message of role {last}, not {messages[-1].role}")
    if not any(message.role == "user" for message in messages):
        raise ValueError("has no message of role user")
    return messages


def _message(position: int, item: Any) -> Message:
    if not isinstance(item, dict) or set(item) != {"role", "content"}:
        raise ValueError(f'message {position} must have exactly the keys "role" and "content"')
    role, content = item["role"], item["content"]
    if role not in _ROLES:
        raise ValueError(f"message {position} has role {role!r}; use one of {', '.join(_ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"message {position} has no text in content")
    return Message(role, content)
