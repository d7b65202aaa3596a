"""Reads chat data in OpenAI's fine-tuning format: one {"messages": [...]} object a line, with `tools` and weights.

Every bad line is reported with its number before anything is trained: a data set is corrected in one go, not by
starting the training again for each mistake. A file is known by the hash of its bytes.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapters.errors import MalformedData, MalformedRecipe

Role = Literal["system", "user", "assistant", "tool"]
Fault = Literal["malformed", "role", "no-assistant", "empty", "tools"]
_ROLES = ("system", "user", "assistant", "tool")
_LINE_KEYS = {"messages", "tools", "parallel_tool_calls"}
_OPTIONAL_KEYS = {"assistant": {"weight", "tool_calls"}, "tool": {"tool_call_id"}}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `weight` 0 keeps an assistant's turn out of the loss; a tool call is {"name", "arguments": object}."""

    role: Role
    content: str
    weight: int = 1
    tool_calls: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form that chat templates take; they want the arguments of a call as an object, not as its JSON."""
        calls = [{"type": "function", "function": call} for call in self.tool_calls]
        return {"role": self.role, "content": self.content} | ({"tool_calls": calls} if calls else {})


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and the line (from 1) it stands on; `tools` as OpenAI and chat templates both take them."""

    line: int
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def uses_tools(self) -> bool:
        """Whether a chat template without tools would lose something."""
        return bool(self.tools) or any(message.tool_calls or message.role == "tool" for message in self.messages)


@dataclass(frozen=True, slots=True)
class Dataset:
    """`sha256` is that of the file's bytes, and so the data set's version."""

    path: Path
    examples: tuple[Example, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line, once per line."""

    line: int
    fault: Fault
    why: str


@dataclass(frozen=True, slots=True)
class Scan:
    """The good lines of a file and what is wrong with the others."""

    dataset: Dataset
    problems: tuple[Problem, ...] = field(default=())


class _BadLine(ValueError):
    def __init__(self, fault: Fault, why: str) -> None:
        self.fault: Fault = fault
        super().__init__(why)


def load_chat(path: Path, last: Role) -> Dataset:
    """Read a JSONL file whose conversations all end with a message of role `last`; blank lines are skipped.

    `last` is "assistant" for training data and "user" for questions.
    Raises MalformedData, and MalformedRecipe when there is no such file.
    """
    scan = scan_chat(path, last)
    if scan.problems:
        raise MalformedData(path, [(problem.line, problem.why) for problem in scan.problems])
    return scan.dataset


def scan_chat(path: Path, last: Role) -> Scan:
    """As `load_chat`, but bad lines are returned instead of raised. Raises MalformedRecipe when there is no file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MalformedRecipe(
            f"{path} cannot be read ({error.strerror}): check the file name, on the command line or in recipe.toml"
        ) from None
    examples: list[Example] = []
    problems: list[Problem] = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            examples.append(_example(number, line, last))
        except _BadLine as error:
            problems.append(Problem(number, error.fault, str(error)))
    if not examples and not problems:
        problems.append(Problem(1, "empty", "the file is empty; write one conversation a line"))
    return Scan(Dataset(path, tuple(examples), hashlib.sha256(raw).hexdigest()), tuple(problems))


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises ValueError that says what is wrong with it."""
    try:
        row = json.loads(line.decode("utf-8"))
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise _BadLine("malformed", "not UTF-8") from None
    except UnicodeEncodeError:
        raise _BadLine("malformed", "half of a surrogate pair (\\ud800 to \\udfff alone), which is no text") from None
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _BadLine("malformed", f"not JSON{where}") from None
    if not isinstance(row, dict):
        raise _BadLine("malformed", 'must be an object with the key "messages"')
    return row


def _example(number: int, line: bytes, last: Role) -> Example:
    row = parse_object(line)
    if unknown := sorted(set(row) - _LINE_KEYS):
        raise _BadLine("malformed", f'unknown key {unknown[0]!r}; use "messages", "tools" and "parallel_tool_calls"')
    if not isinstance(row.get("messages"), list):
        raise _BadLine("malformed", '"messages" must be a list of messages')
    if not row["messages"]:
        raise _BadLine("empty", '"messages" must have at least one message')
    messages = tuple(_message(position, item) for position, item in enumerate(row["messages"], start=1))
    _check_turns(messages, last)
    tools = _tools(row.get("tools"))
    _check_calls(messages, row.get("parallel_tool_calls", True))
    return Example(number, messages, tools)


def _check_turns(messages: tuple[Message, ...], last: Role) -> None:
    fault: Fault = "no-assistant" if last == "assistant" else "role"
    if messages[-1].role != last:
        raise _BadLine(fault, f"must end with a message of role {last}, not {messages[-1].role}")
    if not any(message.role == "user" for message in messages):
        raise _BadLine("role", "has no message of role user")
    if last == "assistant" and not any(message.role == "assistant" and message.weight for message in messages):
        raise _BadLine("no-assistant", "every assistant message has weight 0: nothing can be learnt")


def _message(position: int, item: Any) -> Message:
    if not isinstance(item, dict) or "role" not in item:
        raise _BadLine("role", f'message {position} must be an object with the keys "role" and "content"')
    role = item["role"]
    if role not in _ROLES:
        raise _BadLine("role", f"message {position} has role {role!r}; use one of {', '.join(_ROLES)}")
    if unknown := sorted(set(item) - {"role", "content"} - _OPTIONAL_KEYS.get(role, set())):
        raise _BadLine("malformed", f"message {position}: a {role} message has no key {unknown[0]!r}")
    calls = _calls(position, item.get("tool_calls"))
    content = item.get("content")
    if not (content is None and calls) and not (isinstance(content, str) and content.strip()):
        raise _BadLine("empty", f"message {position} has no text in content")
    weight = item.get("weight", 1)
    if type(weight) is not int or weight not in (0, 1):
        raise _BadLine("malformed", f"message {position}: weight must be 0 or 1, not {weight!r}")
    return Message(role, content or "", weight, calls)


def _calls(position: int, stated: Any) -> tuple[dict[str, Any], ...]:
    if stated is None:
        return ()
    if not isinstance(stated, list) or not stated:
        raise _BadLine("tools", f"message {position}: tool_calls must be a list of calls")
    return tuple(_call(position, call) for call in stated)


def _call(position: int, call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _BadLine("tools", f'message {position}: a tool call needs "function" with "name" and "arguments"')
    try:
        arguments = json.loads(function.get("arguments", ""))
    except (TypeError, ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise _BadLine(
            "tools", f"message {position}: arguments of {function['name']} must be a JSON object in a string"
        )
    return {"name": function["name"], "arguments": arguments}


def _tools(stated: Any) -> tuple[dict[str, Any], ...]:
    if stated is None:
        return ()
    named = isinstance(stated, list) and all(
        isinstance(tool, dict) and isinstance(tool.get("function"), dict) and "name" in tool["function"]
        for tool in stated
    )
    if not named:
        raise _BadLine("tools", 'tools must be a list of {"type": "function", "function": {"name": ...}}')
    return tuple(stated)


def _check_calls(messages: tuple[Message, ...], parallel: Any) -> None:
    if not isinstance(parallel, bool):
        raise _BadLine("tools", "parallel_tool_calls must be true or false")
    waiting = 0
    for position, message in enumerate(messages, start=1):
        if message.role == "tool":
            waiting -= 1
            if waiting < 0:
                raise _BadLine("tools", f"message {position} is a tool's answer that no tool call asked for")
        elif message.role == "assistant":
            waiting = len(message.tool_calls)
            if waiting > 1 and not parallel:
                raise _BadLine("tools", f"message {position} has {waiting} tool calls; parallel_tool_calls is false")
