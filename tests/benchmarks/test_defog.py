"""defog's layout on a database and questions that we wrote."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapters.dataset import load_chat
from adapters.recipe import load_recipe
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


def test_a_database_that_is_learnt_is_not_asked_about(folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(folder / "sqlite" / "zoo.db", folder / "sqlite" / "farm.db")
    with (folder / "questions_gen_sqlite.csv").open("a") as file:
        file.write("farm,sqlite,x,SELECT 6;SELECT 7,How many?,\n")
    main(folder, tmp_path / "out", ["farm"])
    (line,) = load_task(tmp_path / "out" / "task.toml").questions()
    assert line.database == "zoo"
    recipe = load_recipe(tmp_path / "out" / "recipe.toml")
    (example,) = load_chat(tmp_path / "out" / recipe.data, "assistant").examples
    assert [each.content for each in example.messages[1:]] == [
        "CREATE TABLE animal ( name TEXT, legs INTEGER );\n\nHow many?",
        "SELECT 6",
    ]
    with pytest.raises(TaskError, match="there is no database barn; they are empty, farm, zoo"):
        main(folder, tmp_path / "out", ["barn"])


def test_alternatives_and_what_is_wrong(tmp_path: Path) -> None:
    assert alternatives("SELECT 1; SELECT 2;\n") == ["SELECT 1", "SELECT 2"]
    with pytest.raises(TaskError, match="cannot be read"):
        main(tmp_path, tmp_path / "out")
    (tmp_path / "questions_gen_sqlite.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TaskError, match="must have the columns"):
        main(tmp_path, tmp_path / "out")
