"""defog's sql-eval (SQLite questions) as a task of `breakeven eval adapter`:

    python -m benchmarks.defog FOLDER --out tasks/defog

FOLDER has questions_gen_sqlite.csv and sqlite/<database>.db. A question is asked with the tables of its database, as
SQLite itself describes them; it may have several right queries. Databases given with --learn are not asked about:
their questions become training data, so that an adapter is measured on databases it has never seen.
"""

import csv
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.adapter_eval.questions import TaskError
from benchmarks.errors import BenchmarkError

SYSTEM = "Answer with one SQLite query and nothing else."
_COLUMNS = {"db_name", "query", "question", "instructions"}


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with questions_gen_sqlite.csv and sqlite/.")],
    out: Annotated[Path, typer.Option(help="Folder for the task, its questions and its databases.")],
    learn: Annotated[list[str], typer.Option(help="Database to train on instead; may be given several times.")] = [],  # noqa: B006  # typer wants a list, and nobody changes it
) -> None:
    """Write the task, and with --learn a recipe and its data."""
    rows = _read(folder / "questions_gen_sqlite.csv")
    databases = sorted({row["db_name"] for row in rows})
    (out / "databases").mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in databases:
        shutil.copyfile(folder / "sqlite" / f"{name}.db", out / "databases" / f"{name}.db")
        tables[name] = describe(out / "databases" / f"{name}.db")
    if unknown := set(learn) - set(databases):
        raise TaskError(f"there is no database {', '.join(sorted(unknown))}; they are {', '.join(databases)}")
    usable = [row for row in rows if tables[row["db_name"]]]
    asked = [_question(row, tables[row["db_name"]]) for row in usable if row["db_name"] not in learn]
    _write(out / "questions.jsonl", asked)
    if learn:
        learnt = [_question(row, tables[row["db_name"]]) for row in usable if row["db_name"] in learn]
        _write(out / "train.jsonl", map(_lesson, learnt))
        recipe = files("benchmarks").joinpath("defog.toml").read_text(encoding="utf-8")
        (out / "recipe.toml").write_text(recipe, encoding="utf-8")
    facts = {"name": "defog", "kind": "sql", "data": "questions.jsonl", "databases": "databases", "max_tokens": 300}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())
    (out / "task.toml").write_text(text, encoding="utf-8")
    left = f"; {len(rows) - len(usable)} left out, their databases are empty" if len(usable) < len(rows) else ""
    count = f"{len(asked)} questions on {len(set(databases) - set(learn))} databases in {out}"
    count += f", {len(usable) - len(asked)} to train on" if learn else ""
    Console(stderr=True).print(count + left, markup=False)


def describe(path: Path) -> str:
    """The database's CREATE statements, one table after the other."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return "\n".join(" ".join(str(statement).split()) + ";" for (statement,) in found if statement)


def alternatives(queries: str) -> list[str]:
    """The right queries that one cell holds."""
    return [query.strip() for query in queries.split(";") if query.strip()]


def _question(row: dict[str, str], tables: str) -> dict[str, Any]:
    hint = f"\n\n{row['instructions'].strip()}" if row["instructions"].strip() else ""
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{tables}\n\n{row['question'].strip()}{hint}"},
    ]
    return {"messages": messages, "answers": alternatives(row["query"]), "database": row["db_name"]}


def _lesson(question: dict[str, Any]) -> dict[str, Any]:
    """The question with the first of its right queries as the assistant's answer."""
    return {"messages": [*question["messages"], {"role": "assistant", "content": question["answers"][0]}]}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): give defog's folder") from None
    if not rows or not _names(rows) >= _COLUMNS:
        raise TaskError(f"{path.name} must have the columns {', '.join(sorted(_COLUMNS))}")
    return rows


def _names(rows: Iterable[dict[str, str]]) -> set[str]:
    return {name for row in rows for name in row if name}


if __name__ == "__main__":
    try:
        typer.run(main)
    except BenchmarkError as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        sys.exit(1)
