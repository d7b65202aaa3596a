"""Published intent sets' layouts on rows that we wrote, and subsets that tell something about their size alone."""

import json
from collections import Counter
from pathlib import Path

import pytest

from adapters.recipe import load_recipe
from benchmarks.adapter_eval.questions import TaskError
from benchmarks.adapter_eval.tasks import load_task
from benchmarks.intents import LAYOUTS, SYSTEM, Layout, Row, read_set, subset, write_chat, write_task
from benchmarks.learning_curve import main

ROWS = [Row(f"{label} {number}", label) for label, count in (("a", 9), ("b", 5), ("c", 1)) for number in range(count)]


def lay_out(folder: Path, layout: Layout, rows: str) -> None:
    for name in (layout.train, layout.test):
        (folder / name).write_text(f"{layout.text},other,{layout.label}\n{rows}")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: each.name)
def test_a_folder_is_told_by_its_files_and_labels_are_plain_words(tmp_path: Path, layout: Layout) -> None:
    lay_out(tmp_path, layout, '"Is it, well,\nhere?",,Refund_not_showing_up\nWhy,x,reverted_card_payment?\n')
    found = read_set(tmp_path)
    assert found.name == layout.name
    rows = [Row("Is it, well, here?", "refund not showing up"), Row("Why", "reverted card payment")]
    assert found.train == found.test == rows


@pytest.mark.parametrize("text", ["", "text,label\na,b\n", "text,category\na,\n"])
def test_another_layout_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TaskError, match="no set of intents"):
        read_set(tmp_path)
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(TaskError, match="text,category"):
        read_set(tmp_path)
    (tmp_path / "train.csv").write_text("text,category\na,b\n")
    with pytest.raises(TaskError, match="cannot be read"):
        read_set(tmp_path)


def test_subsets_are_even_nested_and_repeatable() -> None:
    small, large = subset(ROWS, 6, seed=1), subset(ROWS, 11, seed=1)
    assert Counter(row.label for row in small) == {"a": 3, "b": 2, "c": 1} or Counter(row.label for row in small) == {
        "a": 2,
        "b": 3,
        "c": 1,
    }
    assert large[:6] == small == subset(ROWS, 6, seed=1)
    assert subset(ROWS, 6, seed=2) != small
    assert sorted(subset(ROWS, 99, seed=1), key=str) == sorted(ROWS, key=str)


def test_it_becomes_chat_data_and_a_task(tmp_path: Path) -> None:
    write_chat(ROWS, tmp_path / "test.jsonl")
    write_chat(ROWS, tmp_path / "questions.jsonl", labelled=False)
    first = json.loads((tmp_path / "test.jsonl").read_text().splitlines()[0])["messages"]
    assert [each["content"] for each in first] == [SYSTEM, "a 0", "a"]
    assert len(json.loads((tmp_path / "questions.jsonl").read_text().splitlines()[0])["messages"]) == 2
    write_task(["b", "c", "a"], tmp_path / "task.toml", "demo", "test.jsonl")
    task = load_task(tmp_path / "task.toml")
    asked = task.asks(task.questions())
    assert asked[0].body["structured_outputs"] == {"choice": ["a", "b", "c"]}


def test_the_recipe_is_one() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "benchmarks" / "intents.toml")
    assert recipe.epochs == 2


def test_points_of_the_curve_that_are_there_are_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,category\na,x\nb,y\nc,y\n")
    figure = {"name": "banking77.accuracy", "value": 0.5, "low": 0.1, "high": 0.9}
    point = {"examples": 2, "epochs": 4, "figures": [figure, {"name": "latency_s"}]}
    out = tmp_path / "curve.json"
    out.write_text(json.dumps({"points": [point]}))
    main(tmp_path, out, [2], None, tmp_path / "work", 7, 3000)
    assert not (tmp_path / "work").exists()
    assert json.loads(out.read_text()) == {"points": [point]}
    printed = capsys.readouterr().err
    assert "2 examples: there already" in printed
    assert "2 examples, 4 epochs: banking77.accuracy 0.5000 (0.1000 to 0.9000)" in printed
