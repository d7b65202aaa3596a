"""defog's sql-eval (SQLite questions) as a task of `breakeven eval adapter`:

    python -m benchmarks.defog FOLDER --out tasks/defog

FOLDER has questions_gen_sqlite.csv and sqlite/<database>.db. A question is asked with the tables of its database, as
SQLite itself describes them; it may have several right queries.
"""

import csv
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.adapter_eval.questions import TaskError
from benchmarks.errors import BenchmarkError

SYSTEM = "Answer with one SQLite query and nothing else."
_COLUMNS = {"db_name", "query", "question", "instructions"}


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with questions_gen_sqlite.csv and sqlite/.")],
    out: Annotated[Path, typer.Option(help="Folder for the task, its questions and its databases.")],
) -> None:
    """Write the task."""
    rows = _read(folder / "questions_gen_sqlite.csv")
    databases = sorted({row["db_name"] for row in rows})
    (out / "databases").mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in databases:
        shutil.copyfile(folder / "sqlite" / f"{name}.db", out / "databases" / f"{name}.db")
        tables[name] = describe(out / "databases" / f"{name}.db")
    usable = [row for row in rows if tables[row["db_name"]]]
    lines = (json.dumps(_question(row, tables[row["db_name"]]), ensure_ascii=False) for row in usable)
    (out / "questions.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    facts = {"name": "defog", "kind": "sql", "data": "questions.jsonl", "databases": "databases", "max_tokens": 300}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())
    (out / "task.toml").write_text(text, encoding="utf-8")
    left = f"; {len(rows) - len(usable)} left out, their databases are empty" if len(usable) < len(rows) else ""
    Console(stderr=True).print(f"{len(usable)} questions on {len(databases)} databases in {out}{left}", markup=False)


def describe(path: Path) -> str:
    """The database's CREATE statements, one table after the other."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return "\n".join(" ".join(str(statement).split()) + ";" for (statement,) in found if statement)


def alternatives(queries: str) -> list[str]:
    """The right queries that one cell holds."""
    return [query.strip() for query in queries.split(";") if query.strip()]


def _question(row: dict[str, str], tables: str) -> dict[str, object]:
    hint = f"\n\n{row['instructions'].strip()}" if row["instructions"].strip() else ""
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{tables}\n\n{row['question'].strip()}{hint}"},
    ]
    return {"messages": messages, "answers": alternatives(row["query"]), "database": row["db_name"]}


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
