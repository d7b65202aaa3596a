"""Tables and pairs become chat data that loads, or nothing is written."""

import hashlib
from pathlib import Path

import pytest

from adapters.dataset import load_chat
from adapters.errors import MalformedData, MalformedRecipe, OutputExists
from adapters.importing import import_csv, import_pairs


def test_csv(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text(
        '\ufeffid,query,intent\n1,"Where is\nmy card?",card_arrival\n2, Hello ,greeting\n', encoding="utf-8"
    )
    imported = import_csv(source, tmp_path / "out.jsonl", "query", "intent", system="Name the intent.")
    data = load_chat(imported.path, "assistant")
    turns = [[message.content for message in example.messages] for example in data.examples]
    assert turns == [
        ["Name the intent.", "Where is\nmy card?", "card_arrival"],
        ["Name the intent.", "Hello", "greeting"],
    ]
    assert imported.examples == 2 and imported.sha256 == data.sha256
    assert imported.sha256 == hashlib.sha256(imported.path.read_bytes()).hexdigest()


def test_pairs(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "2+2? ", "completion": " 4"}\n\n{"prompt": "é?", "completion": "ü", "id": 3}\n')
    data = load_chat(import_pairs(source, tmp_path / "out.jsonl").path, "assistant")
    turns = [tuple(message.content for message in example.messages) for example in data.examples]
    assert turns == [("2+2?", "4"), ("é?", "ü")]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", "text\nHi\n", "no column 'label'; there are text"),
        ("a.csv", "", "there are none"),
        ("a.csv", "text,label\nHi,\n", "line 2: question and answer must both have text"),
        ("a.csv", "text,label\nHi\n", "line 2: question and answer"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.csv", 'text,label\n"Hi,x\n', "not CSV"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": 1}\n[]\n{', "(?s)3 lines.*line 2.*line 3.*line 4"),
        ("a.jsonl", '{"prompt": "a", "completion": " "}', "line 1: question and answer"),
        ("a.jsonl", "", "no rows"),
    ],
)
def test_what_cannot_be_imported_is_not_written(tmp_path: Path, name: str, content: str, why: str) -> None:
    source = tmp_path / name
    source.write_text(content)
    out = tmp_path / "out.jsonl"
    with pytest.raises(MalformedData, match=why):
        if name.endswith(".csv"):
            import_csv(source, out, "text", "label")
        else:
            import_pairs(source, out)
    assert not out.exists()


def test_files_that_are_missing_taken_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(MalformedRecipe, match="cannot be read"):
        import_csv(tmp_path / "none.csv", tmp_path / "out.jsonl", "text", "label")
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,x\n".encode("latin-1"))
    with pytest.raises(MalformedRecipe, match="not UTF-8"):
        import_csv(tmp_path / "latin.csv", tmp_path / "out.jsonl", "text", "label")
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "completion": "b"}')
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(OutputExists):
        import_pairs(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "mine"
