"""The live break-even: nothing before there is enough, then the same model as `whatif`, every number with its kind."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from benchmarks.economics.live import LiveEconomics, Terms
from benchmarks.economics.live_terminal import frame
from benchmarks.errors import BenchmarkError
from benchmarks.prices import load_prices
from serving.accounting.cost import GpuPrice
from serving.accounting.economics import Appraisal
from serving.accounting.ledger.statement import Statement
from serving.accounting.ledger.traffic import Block, Traffic

TODAY = date(2026, 11, 20)
A10G = GpuPrice("a10g", (), Decimal("1.50"), "anchor", "2026-11-01", "quoted")
# The anchor: 30 answers a minute at full load, 1,400 tokens in and 250 out.
FULL = Block(
    queries=15, answered=15, prompt_tokens=21_000, completion_tokens=3750, billed_s=30.0, busy_s=30.0, searched=0
)
NOTHING = Statement(0, 0, 0, 0, 0, 0, 0, 0, *(Decimal(0) for _ in range(7)))


def seen(*blocks: Block, simulated: bool = False, price: Decimal = Decimal("1.50")) -> Traffic:
    billed = sum(block.billed_s for block in blocks)
    bill = replace(NOTHING, billed_s=billed, billed_usd=Decimal(billed) * price / 3600, requests=1)
    return Traffic(1_780_000_000.0, 86_400.0, billed or 1.0, 30.0, blocks, bill, simulated)


def live(today: date = TODAY, **terms: Any) -> LiveEconomics:
    plain: dict[str, Any] = {
        "machine": A10G,
        "accelerators": 1,
        "hosted": ["gpt-4o-mini", "gpt-4o"],
        "assumptions": {"fte": 0, "setup_usd": 0, "max_utilisation": 1},
        "retrieval": None,
    }
    return LiveEconomics(load_prices(), Terms(**{**plain, **terms}), lambda: today)


def gauges(found: Appraisal, name: str) -> dict[tuple[str, ...], float]:
    return {tuple(each.labels.values()): each.value for each in found.gauges if each.name == name}


def numbers(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for each in tree.values():
            yield from numbers(each)
    elif isinstance(tree, list):
        for each in tree:
            yield from numbers(each)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield tree


@pytest.mark.parametrize("blocks", [(), (FULL,), (FULL, FULL), (replace(FULL, answered=0),) * 9])
def test_too_little_traffic_is_not_yet_measured(blocks: tuple[Block, ...]) -> None:
    found = live().appraise(seen(*blocks))
    assert found.document["status"] == "not yet measured"
    assert found.document["missing"]
    assert found.document["hosted"] == []
    assert gauges(found, "breakeven_economics_measured") == {(): 0.0}
    assert gauges(found, "breakeven_break_even_queries_per_month") == {}


def test_an_empty_ledger_gives_no_number_at_all() -> None:
    found = live().appraise(seen())
    assert found.document["measured"] == {}
    assert "0 of the 30 answers" in found.document["missing"][0]


def test_the_anchor_comes_out_of_traffic() -> None:
    found = live().appraise(seen(*[FULL] * 20))
    measured = found.document["measured"]
    assert float(measured["usd_per_query"]["value"]) == pytest.approx(0.000833, abs=1e-6)
    assert float(measured["effective_utilisation"]["value"]) == 1.0
    mini, large = found.document["hosted"]
    assert float(mini["usd_per_query"]) == pytest.approx(0.00036)
    assert float(mini["same_traffic_usd"]) == pytest.approx(0.00036 * 300)
    # One A10G needs more than its capacity against GPT-4o mini: at no volume.
    assert mini["break_even"]["never"] and "at no volume" in mini["verdict"] and "It would take" in mini["verdict"]
    assert mini["payback_months"] is None
    # Against GPT-4o at $0.006 it pays from a month's $1,095 on.
    assert float(large["usd_per_query"]) == pytest.approx(0.006)
    assert large["break_even"]["safe_queries_per_month"] is not None
    assert large["pays_now"] and large["payback_months"] == 1
    points = gauges(found, "breakeven_break_even_queries_per_month")
    assert points["gpt-4o-mini", "safe", "point"] == float("inf")
    assert points["gpt-4o", "safe", "point"] == pytest.approx(large["break_even"]["safe_queries_per_month"], abs=1)


def test_a_replica_on_two_accelerators_costs_twice_as_much_a_query() -> None:
    two = replace(FULL, billed_s=60.0, busy_s=60.0)  # both are busy, both are billed
    found = live(accelerators=2).appraise(replace(seen(*[two] * 20), covered_s=600.0)).document
    one = live().appraise(seen(*[FULL] * 20)).document
    assert float(found["measured"]["usd_per_query"]["value"]) == pytest.approx(0.001667, abs=1e-6)
    rate = [float(each["inputs"]["queries_per_minute"]["value"]) for each in (found, one)]
    assert rate == [pytest.approx(30), pytest.approx(30)]
    ends = [each["hosted"][1]["self_hosted_usd_per_month"] for each in (found, one)]
    assert float(ends[0]) == pytest.approx(2 * float(ends[1]), rel=0.01)


def test_every_number_says_how_it_is_known_and_a_simulated_one_is_not_measured() -> None:
    blocks = [replace(FULL, queries=15 + number % 3, billed_s=40.0 + number) for number in range(20)]
    for simulated, kind in ((False, "measured"), (True, "simulated")):
        document = live().appraise(seen(*blocks, simulated=simulated)).document
        kinds = {held["kind"] for part in ("measured", "inputs") for held in document[part].values()}
        assert kinds <= {kind, "modelled", "assumed", "quoted"} and kind in kinds
        assert all(held["source"] for part in ("measured", "inputs") for held in document[part].values())
        cost = document["measured"]["usd_per_query"]
        assert float(cost["low"]) < float(cost["value"]) < float(cost["high"])
        assert all(each["kind"] == "modelled" for each in document["hosted"])
        assert all(abs(each) < 1e12 for each in numbers(document))


def test_searches_are_paid_for_where_the_hosted_design_is_paid_by_search() -> None:
    searching = replace(FULL, searched=12)
    found = live(retrieval="openai-file-search").appraise(seen(*[searching] * 20)).document
    fee = found["inputs"]["api_fees_usd_per_query"]
    assert (float(fee["value"]), fee["kind"]) == (pytest.approx(0.0025 * 0.8), "modelled")
    assert float(found["hosted"][0]["usd_per_query"]) == pytest.approx(0.00036 + 0.002)


def test_cached_tokens_the_tokenizer_and_batches_count() -> None:
    cached = replace(FULL, cached_tokens=10_500)
    assumptions = {"fte": 0, "tokenizer_ratio": 1.1, "api_batch_share": "0.5"}
    mini = live(assumptions=assumptions).appraise(seen(*[cached] * 20)).document["hosted"][0]
    prompt = 700 * 0.15e-6 + 700 * 0.075e-6
    assert float(mini["usd_per_query"]) == pytest.approx(1.1 * (prompt + 250 * 0.6e-6) * 0.75, rel=1e-6)


def test_retired_models_fall_to_one_successor_that_appears_once_and_old_prices_are_flagged() -> None:
    found = live(today=date(2027, 6, 1)).appraise(seen(*[FULL] * 20)).document
    assert [each["model"] for each in found["hosted"]] == ["gpt-6-luna"]
    notes = " ".join(found["notes"])
    assert "gpt-4o-mini was retired on 2027-01-14; priced as its successor gpt-6-luna" in notes
    assert "gpt-4o was retired" in notes and "stale price: gpt-6-luna" in notes and "stale price: a10g" in notes


@pytest.mark.parametrize(
    "terms",
    [
        {"assumptions": {"volume": 1000}},
        {"assumptions": {"ftes": 1}},
        {"assumptions": {"fte": "many"}},
        {"hosted": ["gpt-9000"]},
        {"retrieval": "none-such"},
    ],
)
def test_terms_that_the_model_cannot_use_stop_the_start(terms: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkError):
        live(**terms)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("blocks", [(), (FULL,), tuple([FULL] * 20)])
def test_a_frame_fits_the_terminal(width: int, blocks: tuple[Block, ...]) -> None:
    console = Console(width=width, record=True, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(frame(live().appraise(seen(*blocks)).document, "http://127.0.0.1:8000", width))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    if len(blocks) < 5:
        assert "not yet measured" in text
    else:
        assert "never" in text and re.search(r"gpt-4o +.*\$0\.006", text)


def test_nothing_to_compare_with_is_said() -> None:
    found = live(hosted=[]).appraise(seen(*[FULL] * 20)).document
    assert found["status"] == "not yet measured" and "cost.hosted_models" in found["missing"][0]
    assert float(found["measured"]["usd_per_query"]["value"]) > 0


def test_a_clock_that_was_set_back_gives_no_made_up_volume() -> None:
    found = live().appraise(replace(seen(*[FULL] * 20), covered_s=1e-9)).document
    assert found["status"] == "not yet measured" and found["hosted"] == []
