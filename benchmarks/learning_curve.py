"""How many examples does a classifier need? `python -m benchmarks.learning_curve FOLDER --out curve.json`

For each size: make the subset, train on it, serve the adapter, ask it the whole test set over the endpoint, add a point
to the results. Every step is a command that users have. Run it again after it was broken off: points that are there
are skipped, trainings and evaluations go on where they were. Small subsets are repeated until they add up to as many
examples as a model needs to see at all. Which sets FOLDER may hold: intents.py.
"""

import json
import math
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from adapters.runs import RunFolder
from benchmarks.adapter_eval.questions import TaskError
from benchmarks.errors import BenchmarkError
from benchmarks.intents import IntentSet, Row, read_set, subset, write_chat, write_task
from benchmarks.origin import Origin
from benchmarks.processes import free_port, server
from benchmarks.result_file import keep
from serving.settings import child_environment

SIZES = [100, 500, 1000, 2500, 10_000]
_HELDOUT = 10
console = Console(stderr=True, highlight=False)


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of BANKING77 or of Bitext's support sample.")],
    out: Annotated[Path, typer.Option(help="JSON file of results; points in it are kept.")],
    size: Annotated[list[int], typer.Option(help="Training examples.")] = SIZES,
    test: Annotated[int | None, typer.Option(help="Test questions at most, spread over the labels.")] = None,
    work: Annotated[Path, typer.Option(help="Folder for data, adapters and state.")] = Path(
        ".breakeven/learning-curve"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the subsets.")] = 7,
    seen: Annotated[int, typer.Option(help="Examples that every model sees at least, repeated or not.")] = 3000,
) -> None:
    """Measure accuracy by the number of training examples."""
    given = read_set(folder)
    asked = given if test is None else replace(given, test=subset(given.test, test, seed))
    command = f"python -m benchmarks.learning_curve {folder.name} --seed {seed} --seen {seen}"
    command += f" --test {test}" if test else ""
    results = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"points": []}
    for wanted in size:
        chosen = subset(given.train, wanted, seed)
        if any(point["examples"] == len(chosen) for point in results["points"]):
            console.print(f"{len(chosen)} examples: there already")
            continue
        recipe = {**_recipe(len(chosen), seen), "name": given.name}
        point = measure(replace(asked, train=chosen), recipe, work / given.name / str(len(chosen)), work)
        results["points"].append({**point, "origin": Origin.here(f"{command} --size {wanted}")})
        results["points"].sort(key=lambda each: each["examples"])
        keep(results, out)
    for point in results["points"]:
        figures = "; ".join(
            f"{name} {f['value']:.4f} ({f['low']:.4f} to {f['high']:.4f})" for name, f in _main(point, given.name)
        )
        console.print(f"{point['examples']} examples, {point['epochs']} epochs: {figures}")


def measure(given: IntentSet, recipe: Mapping[str, Any], place: Path, home: Path) -> dict[str, Any]:
    """One point of the curve, from the subset to the figures."""
    chosen, questions = given.train, given.test
    place.mkdir(parents=True, exist_ok=True)
    write_chat(chosen, place / "train.jsonl")
    write_chat(questions[:_HELDOUT], place / "heldout.jsonl", labelled=False)
    write_chat(questions, place / "test.jsonl")
    write_task(sorted({row.label for row in (*chosen, *questions)}), place / "task.toml", given.name, "test.jsonl")
    (place / "recipe.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in recipe.items()), encoding="utf-8")

    adapter = place / "adapter"
    if not adapter.is_dir():
        console.print(f"{len(chosen)} examples: training {recipe['epochs']} epochs")
        _run(home, "train", str(place), "--out", str(adapter))
    trained = RunFolder(adapter).journal.last()
    manifest = json.loads((adapter / "manifest.json").read_text(encoding="utf-8"))
    version = f"{manifest['name']}@{manifest['version']}"

    console.print(f"{len(chosen)} examples: asking {len(questions)} questions of {version}")
    with _served(home, place, given.name, version) as url:
        task, scores = str(place / "task.toml"), place / "scores.json"
        _run(
            home, "eval", "adapter", version, "--task", task, "--url", url, "--concurrency", "16", "--out", str(scores)
        )
    (result,) = json.loads(scores.read_text(encoding="utf-8"))
    return {
        "examples": len(chosen),
        "labels": len({row.label for row in chosen}),
        "epochs": recipe["epochs"],
        "train_seconds": None if trained is None else round(trained.seconds, 1),  # of all attempts
        "adapter": version,
        "questions": result["questions"],
        "questions_in_training": _in_training(chosen, questions),
        "simulated": result["simulated"],
        "figures": result["figures"],
    }


def _recipe(examples: int, seen: int) -> dict[str, Any]:
    stated = tomllib.loads(files("benchmarks").joinpath("intents.toml").read_text(encoding="utf-8"))
    return {**stated, "epochs": max(stated["epochs"], math.ceil(seen / examples))}


def _run(home: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "breakeven", *arguments]
    done = subprocess.run(command, env=child_environment(_environment(home)), check=False)
    if done.returncode != 0:
        raise TaskError(f"`breakeven {arguments[0]}` failed; run the same command again to continue")


@contextmanager
def _served(home: Path, place: Path, model: str, version: str) -> Iterator[str]:
    """The gateway's URL, with the adapter as a served model, while it runs."""
    config, port = place / "serve.yaml", free_port()
    config.write_text(f"models:\n  {model}: {{adapter: {version}}}\n", encoding="utf-8")
    command = [sys.executable, "-m", "breakeven", "serve", "--config", str(config), "--port", str(port)]
    with server(command, f"http://127.0.0.1:{port}/readyz", place / "serve.log", _environment(home), stop_s=60.0):
        yield f"http://127.0.0.1:{port}/v1"


def _environment(home: Path) -> Mapping[str, str]:
    return {"BREAKEVEN_HOME": str(home.resolve())}


def _in_training(chosen: list[Row], questions: list[Row]) -> int:
    """Test questions that were trained on, word for word: published sets are not free of them."""
    learnt = {row.text.casefold() for row in chosen}
    return sum(row.text.casefold() in learnt for row in questions)


def _main(point: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((figure["name"], figure) for figure in point["figures"] if figure["name"].startswith(f"{name}."))


if __name__ == "__main__":
    try:
        typer.run(main)
    except BenchmarkError as error:
        console.print(f"error: {error}", markup=False)
        sys.exit(1)
