"""defog's layout on a database and questions that we wrote."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.adapter_eval.questions import TaskError
from benchmarks.adapter_eval.task import Answer
from benchmarks.adapter_eval.tasks import load_task
from benchmarks.defog import alternatives, main

HEAD = "db_name,db_type,query_category,query,question,instructions\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "defog"
    (place / "sqlite").mkdir(parents=True)
    with closing(sqlite3.connect(place / "sqlite" / "zoo.db")) as database, database:
        database.execute("CREATE TABLE animal (\n  name TEXT,\n  legs INTEGER\n)")
        database.execute("INSERT INTO animal VALUES ('ant', 6)")
    sqlite3.connect(place / "sqlite" / "empty.db").close()
    rows = 'zoo,sqlite,x,"SELECT name FROM animal;SELECT name, legs FROM animal;",Which animals?,Be exact.\n'
    rows += "empty,sqlite,x,SELECT 1,Nothing?,\n"
    (place / "questions_gen_sqlite.csv").write_text(HEAD + rows)
    return place


def test_it_becomes_a_task_whose_right_answers_score(folder: Path, tmp_path: Path) -> None:
    main(folder, tmp_path / "out")
    task = load_task(tmp_path / "out" / "task.toml")
    (question,) = task.questions()
    assert question.messages[1]["content"] == (
        "CREATE TABLE animal ( name TEXT, legs INTEGER );\n\nWhich animals?\n\nBe exact."
    )
    for text, right in (("SELECT name, legs FROM animal", 1), ("SELECT legs FROM animal", 0)):
        scored = task.score([question], [Answer(text, 0.1)])
        assert scored.figures[0].value == right
    assert len((tmp_path / "out" / "questions.jsonl").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "out" / "questions.jsonl").read_text())["database"] == "zoo"


def test_alternatives_and_what_is_wrong(tmp_path: Path) -> None:
    assert alternatives("SELECT 1; SELECT 2;\n") == ["SELECT 1", "SELECT 2"]
    with pytest.raises(TaskError, match="cannot be read"):
        main(tmp_path, tmp_path / "out")
    (tmp_path / "questions_gen_sqlite.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TaskError, match="must have the columns"):
        main(tmp_path, tmp_path / "out")
