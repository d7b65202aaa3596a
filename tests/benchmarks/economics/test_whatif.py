"""The what-if command: what it accepts, what its first line says, and that its figures are the model's."""

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from benchmarks.economics.answer import Answer, answer
from benchmarks.economics.document import as_document
from benchmarks.economics.question import FIGURES, OTHERS, ask, read_file
from benchmarks.economics.terminal import headline, short, volume
from benchmarks.errors import BenchmarkError, ModelError
from benchmarks.prices import load_prices
from breakeven.main import command_line

D = Decimal
ROOT = Path(__file__).resolve().parents[3]
BOOK, TODAY = load_prices(), date(2026, 11, 20)
DOCUMENTS = {
    "gpu": "a10g-document",
    "hours_per_day": 8,
    "peak_to_mean": "1:1:1",
    "fte": "0:0:0",
    "api_usd_per_month": "0:0:0",
    "setup_usd": 0,
}


def asked(values: dict[str, object], draws: int = 100) -> Answer:
    return answer(ask(BOOK, TODAY, ("a test", values)), draws)


def whatif(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(["whatif"]), ["whatif", "--draws", "100", *arguments])


def test_the_documents_central_claim_in_one_line() -> None:
    found = asked({**DOCUMENTS, "hosted": "gpt-4o-mini"})
    line = headline(found, found.comparisons[0])
    assert line.startswith("No, at no volume against gpt-4o-mini: a query costs $0.000833 even with every replica full")
    assert "69.4 answers a minute per replica (now 30)" in line
    assert "0% of 100 draws" in line


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"volume": "10M", "hosted": "gpt-4o"}, "Yes, at 10,000,000 queries a month: saves $"),
        ({"volume": "10k", "hosted": "gpt-4o"}, "No, at 10,000 queries a month: costs $"),
        ({"hosted": "gpt-4o"}, "Yes against gpt-4o, but only from 417,000 queries a month (90 % interval"),
        ({"hosted": "gpt-4o-mini", "queries_per_minute": 120}, "Yes against gpt-4o-mini, but only first at 23,300,000"),
    ],
)
def test_the_first_line_answers(values: dict[str, object], start: str) -> None:
    found = asked(values)
    assert headline(found, found.comparisons[0]).startswith(start)


def test_the_document_carries_every_input_with_its_kind_and_source() -> None:
    document = as_document(asked({"queries_per_minute": "20:30:40", "volume": 1_000_000}))
    inputs = document["inputs"]
    assert {held["kind"] for held in inputs.values()} == {"assumed", "quoted"}
    assert all(held["source"] for held in inputs.values())
    assert inputs["queries_per_minute"]["low"] == "20"
    assert inputs["api_input_usd_per_mtok"]["as_of"] == "2026-11-10"
    assert [one["model"] for one in document["hosted"]] == ["gpt-4o-mini", "gpt-6-luna", "gpt-4o"]
    assert json.loads(json.dumps(document)) == document


def test_the_curves_are_the_bills() -> None:
    found = asked({**DOCUMENTS, "hosted": "gpt-4o", "volume": 432_000})
    document = as_document(found)
    at = next(row for row in document["curves"] if row["queries_per_month"] == "432000")
    assert at == {"queries_per_month": "432000", "self_hosted_usd": "360", "hosted_usd": {"gpt-4o": "2592"}}
    assert document["self_hosted"]["utilisation"] == 1


def test_a_file_and_flags_over_it(tmp_path: Path) -> None:
    path = tmp_path / "whatif.yaml"
    measured = {"value": 57, "low": 50, "high": 60, "kind": "measured", "source": "run 7"}
    path.write_text(yaml.safe_dump({"volume": "1M", "hosted": ["gpt-4o"], "queries_per_minute": measured, "fte": 0}))
    question = ask(BOOK, TODAY, (str(path), read_file(path)), ("the command line", {"fte": "0.5", "volume": "2M"}))
    (scenario,) = question.scenarios
    rate, fte = scenario.capacity.queries_per_minute, scenario.upkeep.fte
    assert question.volume == 2_000_000
    path.write_text("fte: 20:30:40\npeak_to_mean: 2.1\nfollow_load: false\nhosted: gpt-4o\n")
    (plain,) = ask(BOOK, TODAY, (str(path), read_file(path))).scenarios
    assert (plain.upkeep.fte.low, plain.workload.peak_to_mean.value) == (20, D("2.1"))
    assert rate is not None
    assert (rate.value, rate.kind, rate.source, rate.low) == (57, "measured", "run 7", 50)
    assert (fte.value, fte.kind, fte.source) == (D("0.5"), "assumed", "the command line")


def test_the_page_names_every_input_and_its_example_is_answered(tmp_path: Path) -> None:
    page = (ROOT / "docs/economics.md").read_text(encoding="utf-8")
    assert [name for name in (*FIGURES, *OTHERS) if f"`{name}`" not in page and f"{name}:" not in page] == []
    (tmp_path / "page.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    (one, other) = ask(BOOK, TODAY, ("the page", read_file(tmp_path / "page.yaml"))).scenarios
    assert one.capacity == other.capacity
    assert one.choices.billing == "hour"


def test_stale_and_retired_prices_are_said_where_they_are_used() -> None:
    notes = asked({"hosted": ["claude-3-5-haiku"]}).notes
    assert any("stale price: a10g" in note for note in notes)
    assert any("priced as its successor claude-haiku-4-5" in note for note in notes)
    assert asked({"usd_per_gpu_hour": 1, "hosted": "gpt-6-luna"}).notes == ()


def test_a_stale_price_is_as_uncertain_as_an_assumption() -> None:
    inputs = asked({"hosted": "gpt-6-luna"}).inputs
    assert inputs["usd_per_gpu_hour"].kind == "quoted"
    assert inputs["usd_per_gpu_hour"].source.endswith("(stale)")
    assert inputs["usd_per_gpu_hour"].bounds() == (D("0.7545"), D("1.2575"))
    assert len(set(inputs["api_input_usd_per_mtok"].bounds())) == 1


def test_with_a_service_demand_the_queue_is_checked_at_the_peak() -> None:
    assert asked({"hosted": "gpt-4o"}).queue is None
    demand = {"base_gpu_s": 0, "prefill_gpu_s_per_token": "0.0005", "decode_gpu_s_per_token": "0.0052"}
    queue = asked({**demand, "volume": "3M", "hosted": "gpt-4o"}).queue
    assert queue is not None
    # 3 million in 730 hours, twice that at the peak, 2 seconds each, on the replicas for 0.7 of their time.
    assert queue.utilisation * queue.servers == pytest.approx(3e6 / (730 * 3600) * 2 * 2)
    assert queue.utilisation < 0.7
    assert 0 < queue.mean_wait_s < 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peak_to_men": 2}, "did you mean 'peak_to_mean'"),
        ({"volume": 0}, "above zero"),
        ({"volume": "many"}, "volume must be a number, not 'many'"),
        ({"fte": "1:2"}, "low:value:high"),
        ({"fte": "3:2:1"}, "low <= value <= high"),
        ({"fte": True}, "fte must be a number"),
        ({"fte": {"value": 1, "kind": "guessed"}}, "kind of measured, modelled, assumed, quoted"),
        ({"fte": {"value": 1, "kind": "measured"}}, "its source must say"),
        ({"fte": {"value": 1, "unit": "people"}}, "unknown key 'unit'"),
        ({"billing": "minute"}, "billing 'minute' must be one of second, hour, month"),
        ({"min_replicas": "1.5"}, "whole number"),
        ({"hourly_load": [1, 2]}, "one number above zero for each of the hours"),
        ({"follow_load": True}, "follow_load needs hourly_load"),
        ({"follow_load": "perhaps"}, "true or false"),
        ({"hosted": []}, "hosted must be"),
        ({"base_gpu_s": 1}, "not a mixture"),
        ({"prefix_hit_share": "0.5"}, "acts on a service demand"),
    ],
)
def test_a_mistake_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        asked(values)


def test_files_that_are_no_question(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name, message in (
        ("list.yaml", "input: value"),
        ("broken.yaml", "cannot read"),
        ("absent.yaml", "cannot read"),
    ):
        with pytest.raises(ModelError, match=message):
            read_file(tmp_path / name)


SCALARS = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.none(), st.booleans())


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([*FIGURES, *OTHERS]),
    st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(SCALARS, SCALARS, max_size=2)),
)
def test_any_value_is_answered_or_refused_with_a_word(name: str, value: object) -> None:
    try:
        found = answer(ask(BOOK, TODAY, ("a test", {"hosted": "gpt-4o", name: value})), draws=3)
    except BenchmarkError as error:
        assert str(error)
    else:
        assert headline(found, found.comparisons[0])


def test_the_command_prints_the_answer_first_and_names_what_is_assumed() -> None:
    found = whatif("--volume", "10M", "--queries-per-minute", "60:120:200")
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].startswith("No, at 10,000,000 queries a month: costs $")
    assert "Most sensitive" in found.stdout
    assert "Assumed, not measured or quoted: queries_per_minute" in found.stdout
    assert "note: stale price: a10g" in found.stdout or "a10g" not in found.stdout


def test_json_and_pictures_that_repeat(tmp_path: Path) -> None:
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        one, again = tmp_path / f"one{ending}", tmp_path / f"again{ending}"
        found = whatif("--hosted", "gpt-4o", "--set", "fte=0", "--plot", str(one), "--json")
        assert json.loads(found.stdout)["hosted"][0]["model"] == "gpt-4o"
        whatif("--hosted", "gpt-4o", "--set", "fte=0", "--plot", str(again), "--json")
        assert one.read_bytes().startswith(start)
        assert again.read_bytes() == one.read_bytes()


@pytest.mark.parametrize("name", ["whatif.nonsense", "no/such/folder/whatif.png"])
def test_a_picture_that_cannot_be_written_says_what_can(tmp_path: Path, name: str) -> None:
    arguments = ["whatif", "--draws", "100", "--plot", str(tmp_path / name)]
    with pytest.raises(ModelError, match=r"name a \.png, \.svg or \.pdf"):
        command_line(["whatif"])(arguments, standalone_mode=False)


def test_a_set_without_a_value_is_a_mistake() -> None:
    with pytest.raises(ModelError, match="INPUT=VALUE"):
        command_line(["whatif"])(["whatif", "--set", "fte"], standalone_mode=False)


def test_an_answer_loads_no_library_that_it_does_not_need() -> None:
    statement = "from breakeven.main import command_line; command_line(['whatif'])(['whatif'], standalone_mode=False)"
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "benchmarks.economics.answer" in loaded
    assert {"matplotlib", "scipy", "pandas", "fastapi", "chromadb"} & set(loaded) == set()


@pytest.mark.parametrize(
    ("queries", "words", "letters"),
    [("416980.2", "417,000", "417k"), ("23269222", "23,300,000", "23.3M"), ("42", "42", "42")],
)
def test_volumes_have_three_digits(queries: str, words: str, letters: str) -> None:
    assert (volume(D(queries)), short(D(queries))) == (words, letters)
