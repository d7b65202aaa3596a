"""`breakeven data` and `train` as a user meets them: what they print, what they return, what they leave."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from adapters.registry import Registry
from adapters.runs import RunFolder
from breakeven.main import command_line
from tests.adapters.tiny import chat, make_base, write_recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def breakeven(home: Path, *arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    app: typer.Typer = command_line(words)
    return CliRunner(env={"BREAKEVEN_HOME": str(home), "BREAKEVEN_COST__USD_PER_HOUR": "3.6"}).invoke(app, words)


def test_from_a_table_to_an_estimate(base: Path, tmp_path: Path) -> None:
    home, table, data = tmp_path / "home", tmp_path / "in.csv", tmp_path / "recipe" / "train.jsonl"
    recipe = write_recipe(tmp_path / "recipe", epochs=10, scored=False)
    data.unlink()
    table.write_text("text,label\n" + "".join(f"Question {'x' * n}?,answer {'y' * n}\n" for n in range(8)))
    assert breakeven(home, "data", "import", table, "--out", data).exit_code == 0

    check = ("data", "check", data, "--recipe", recipe, "--base", base)
    before = breakeven(home, *check)
    assert before.exit_code == 0 and "training (10 epochs): not measured yet. Measure with" in before.stdout
    after = breakeven(home, *check, "--probe")
    assert after.exit_code == 0 and "tokens/s, measured on" in after.stdout
    report = json.loads(breakeven(home, *check, "--json").stdout)
    assert report["estimate"]["tokens"] == 10 * report["tokens"]["total"]
    assert float(report["estimate"]["usd"]) == pytest.approx(report["estimate"]["seconds"] / 1000, abs=1e-6)


def test_errors_are_status_1_and_warnings_0(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join([chat("a?", "b"), chat("a?", "b")]))
    warned = breakeven(tmp_path, "data", "check", data, "--base", base)
    assert warned.exit_code == 0 and "warning: exact copies: 1" in warned.stdout
    data.write_text(chat("a?", "b") + "\n{")
    failed = breakeven(tmp_path, "data", "check", data, "--base", base)
    assert failed.exit_code == 1 and "data.jsonl:2: not JSON at column 2" in failed.stdout


def test_the_same_train_command_again_has_nothing_to_do(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    train = ("train", recipe, "--base", base)
    first = breakeven(tmp_path / "home", *train)
    assert first.exit_code == 0 and "and installed" in first.stdout, first.output
    [name] = Registry(tmp_path / "home" / "adapters").names()
    [out] = [path for path in (tmp_path / "home" / "trained").iterdir() if path.suffix != ".run"]
    events = RunFolder(out).journal.events()
    assert name == "tiny" and events[-1].state == "succeeded"
    assert events[-1].usd == pytest.approx(events[-1].seconds / 1000, rel=0.01)
    second = breakeven(tmp_path / "home", *train)
    assert second.exit_code == 0 and second.stdout == first.stdout
    assert RunFolder(out).journal.events() == events


def test_a_cancelled_training_installs_nothing_and_says_so_in_its_status(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    RunFolder(tmp_path / "out").request("cancel")
    cancelled = breakeven(tmp_path / "home", "train", recipe, "--base", base, "--out", tmp_path / "out")
    assert cancelled.exit_code == 130
    assert not (tmp_path / "out").exists() and Registry(tmp_path / "home" / "adapters").names() == ()
