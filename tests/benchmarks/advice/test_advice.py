"""The advice as a whole: words, JSON, picture, command, and mistakes in one line."""

import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from benchmarks.advice.advice import Advice, advise
from benchmarks.advice.asking import ask_missing
from benchmarks.advice.document import as_document
from benchmarks.advice.needs import INPUTS, parse, read_needs
from benchmarks.advice.plot import draw
from benchmarks.advice.terminal import headline, print_advice
from benchmarks.advice.terms import ASSUMED
from benchmarks.economics.figures import KINDS
from benchmarks.errors import AdviceError, BenchmarkError
from breakeven.main import command_line
from tests.benchmarks.advice.small_prices import CHEAP, DEAR, terms

GOLDEN = Path(__file__).with_name("golden.txt")
EXAMPLE = {
    "need": "both",
    "updates_per_month": "weekly",
    "examples": "2k",
    "volume": "2M",
    "budget_usd_per_month": "20k",
}


def advice(values: dict[str, Any] | None = None) -> Advice:
    return advise(DEAR, *read_needs(("an example", EXAMPLE if values is None else values)), draws=100)


def printed(found: Advice) -> str:
    written = io.StringIO()
    print_advice(found, Console(file=written, highlight=False, soft_wrap=True, width=80))
    return written.getvalue()


def test_one_example_word_for_word() -> None:
    assert printed(advice()) == GOLDEN.read_text(encoding="utf-8")


def test_the_first_line_says_what_and_how_sure() -> None:
    found = advice()
    first = printed(found).splitlines()[0]
    assert first == headline(found)
    assert first.startswith("Both RAG and fine-tuning, self-hosted (a10g against dear), ")
    assert f"{found.certainty.grade} confidence" in first


def test_confidence_falls_with_what_nobody_said() -> None:
    said = {
        **{"need": "knowledge", "updates_per_month": "daily", "citations": True, "per_user": False, "examples": 0},
        **{"latency_ms": 2000, "budget_usd_per_month": 5000, "volume": "10k", "growth_per_month": 0, "people": 1},
    }
    sure = advise(CHEAP, *read_needs(("a test", said)), draws=100)
    assert {**said, "examples": 100}.keys() == INPUTS.keys()
    assert advise(CHEAP, *read_needs(("a test", {**said, "examples": 100})), draws=100).certainty.grade == "high"
    assert sure.certainty.grade == "medium"
    assert advise(CHEAP, *read_needs(), draws=100).certainty.grade == "low"


def test_json_marks_every_number_and_repeats() -> None:
    found = as_document(advice())
    assert orjson.dumps(found) == orjson.dumps(as_document(advice()))
    for group in ("needs", "assumptions", "inputs"):
        assert all(held["kind"] in KINDS and held["source"] for held in found[group].values())
    assert found["answer"] == {"design": "both", "self_hosted": True}
    assert len(found["designs"]["RAG"]["hosted"]["spent_usd_by_month"]) == 24
    assert Decimal(found["designs"]["both"]["v_safe"]) > 0


def test_pictures_that_repeat(tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    draw(advice(), one)
    draw(advice(), other)
    assert one.read_bytes() == other.read_bytes()
    with pytest.raises(AdviceError, match=r"name a \.png"):
        draw(advice(), tmp_path / "picture.doc")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"need": "behavoir"}, "did you mean 'behaviour'"),
        ({"updates_per_month": "often"}, "must be a number or one of never, yearly"),
        ({"citations": "perhaps"}, "citations must be yes or no"),
        ({"examples": -1}, "examples is -1; it lies between 0 and"),
        ({"volume": "many"}, "volume must be a number, not 'many'"),
        ({"volume": "nan"}, "it lies between"),
        ({"people": "0,5"}, "must be a number"),
        ({"people": {"value": 1, "kind": "measured"}}, "its source must say"),
        ({"people": {"kind": "measured"}}, "takes a value"),
    ],
)
def test_a_mistake_in_the_needs_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AdviceError, match=message) as caught:
        read_needs(("a test", values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"retrains_per_month": 1}, "set adapter_retrains_per_month instead"),
        ({"hosted": ["dear", "gpt-6-luna"]}, "name one hosted model"),
        ({"hosted": "deer"}, "the nearest is 'dear'"),
        ({"context_tokens": 2000}, "a part of prompt_tokens"),
        ({"context_tokens": "lots"}, "context_tokens must be a number"),
        ({"enough_examples": -5}, "at least 0"),
        ({"exampels": 5}, "did you mean 'examples'"),
    ],
)
def test_a_mistake_in_the_terms_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        terms(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said", "value"),
    [("volume", "300,000", 300_000), ("volume", "2.5M", 2_500_000), ("updates_per_month", "Quarterly", 1 / Decimal(3))],
)
def test_numbers_as_people_write_them(name: str, said: str, value: object) -> None:
    assert parse(name, said) == value


def test_only_what_is_missing_is_asked_and_a_mistake_is_asked_again() -> None:
    typed = {"How many queries a month?": ["a lot", "2M"]}
    asked: list[str] = []
    told: list[str] = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return typed[question].pop(0) if question in typed else default

    assert ask_missing({"need": "both"}, ask, told.append) == {"volume": "2M"}
    assert len(asked) == len(INPUTS) and INPUTS["need"].question not in asked
    assert told == ["volume must be a number, not 'a lot'"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(["advise"]), ["advise", "--draws", "100", *arguments])


def test_the_command_takes_a_file_with_flags_over_it_and_asks_nothing_of_a_pipe(tmp_path: Path) -> None:
    file = tmp_path / "needs.yaml"
    file.write_text("need: behaviour\nexamples: {value: 900, kind: measured, source: counted}\nenough_examples: 800\n")
    found = json.loads(run("--file", str(file), "--json").stdout)
    assert found["answer"]["design"] == "fine-tune"
    assert found["needs"]["examples"] == {"value": "900", "kind": "measured", "source": "counted", "given": True}
    assert found["needs"]["volume"]["given"] is False
    over = json.loads(run("--file", str(file), "--examples", "700", "--json").stdout)
    assert over["answer"]["design"] == "prompt"


def test_flags_with_two_values_and_a_set_without_one() -> None:
    found = json.loads(run("--citations", "--no-per-user", "--json").stdout)
    assert (found["needs"]["citations"]["value"], found["needs"]["per_user"]["given"]) == (True, True)
    assert isinstance(run("--set", "enough_examples").exception, AdviceError)


def test_the_page_names_every_input_and_every_assumption() -> None:
    page = (Path(__file__).parents[3] / "docs" / "advise.md").read_text(encoding="utf-8")
    assert not [name for name in (*INPUTS, *ASSUMED) if f"`{name}`" not in page]


def test_advice_loads_no_library_that_it_does_not_need() -> None:
    statement = (
        "from breakeven.main import command_line; "
        "command_line(['advise'])(['advise', '--draws', '100'], standalone_mode=False); "
        "import sys; print(sorted({'matplotlib', 'torch', 'chromadb', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True, input="")
    assert done.stdout.splitlines()[-1] == "[]"
