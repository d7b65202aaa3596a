"""Bad lines are reported all at once, by number; good files come through whole."""

import hashlib
import json
from pathlib import Path

import pytest

from adapters.dataset import Message, load_chat
from adapters.errors import MalformedData, MalformedRecipe

GOOD = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})
QUESTION = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", GOOD, "", GOOD)
    data = load_chat(path, last="assistant")
    assert [example.line for example in data.examples] == [1, 3]
    assert data.examples[0].messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(load_chat(write(path, QUESTION), last="user").examples) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON at column 2"),
        ("[" * 100_000, "not JSON"),
        ("[]", "messages"),
        ('{"messages": [], "tools": []}', "messages"),
        ('{"messages": []}', "at least one"),
        ('{"messages": ["Hi"]}', "message 1"),
        ('{"messages": [{"role": "user", "content": "Hi", "name": "x"}]}', "message 1"),
        ('{"messages": [{"role": "robot", "content": "Hi"}]}', "robot"),
        ('{"messages": [{"role": [], "content": "Hi"}]}', "role"),
        ('{"messages": [{"role": "user", "content": " "}]}', "no text"),
        ('{"messages": [{"role": "user", "content": "a \\ud800 b"}]}', "surrogate"),
        ('{"messages": [{"role": "user", "content": null}]}', "no text"),
        (QUESTION, "must end with a message of role assistant, not user"),
        ('{"messages": [{"role": "assistant", "content": "Hi"}]}', "no message of role user"),
    ],
)
def test_a_bad_line_is_reported_with_its_number(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(MalformedData, match=why) as caught:
        load_chat(write(tmp_path / "data.jsonl", GOOD, line, GOOD), last="assistant")
    assert [number for number, _ in caught.value.problems] == [2]
    assert "line 2:" in str(caught.value)


def test_all_bad_lines_are_known_and_twenty_are_shown(tmp_path: Path) -> None:
    lines = ["bad"] * 25
    with pytest.raises(MalformedData) as caught:
        load_chat(write(tmp_path / "data.jsonl", GOOD, *lines), last="assistant")
    assert [number for number, _ in caught.value.problems] == list(range(2, 27))
    message = str(caught.value)
    assert "25 lines" in message and "line 21:" in message and "line 22:" not in message and "5 more" in message


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
    with pytest.raises(MalformedData, match="line 2: not UTF-8"):
        load_chat(path, last="assistant")


def test_an_empty_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MalformedData, match="empty"):
        load_chat(write(tmp_path / "data.jsonl"), last="assistant")
    with pytest.raises(MalformedRecipe, match=r"recipe\.toml"):
        load_chat(tmp_path / "none.jsonl", last="assistant")
