"""The evidence on each machine: never mixed, never a simulation called measured, never an invented figure."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks.economics.answer import Answer
from benchmarks.errors import BenchmarkError, ResultsError
from benchmarks.experiments.findings import Gap
from benchmarks.experiments.results import Experiment, read_experiment
from benchmarks.load.plan import Slo
from benchmarks.load.record import LoadResult
from benchmarks.origin import Origin
from benchmarks.prices import load_prices
from benchmarks.report.cases import SIMULATED, cases
from benchmarks.report.story import caveat, headline, measures, replies
from tests.benchmarks.report.made_results import GPU, ORIGIN, comparison, everything, grid, sweep, write

PRICES = load_prices()
ON_GPU = replace(ORIGIN, gpus=(GPU,), packages={"vllm": "0.26.0"})
Made = Callable[..., Experiment]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(runs: list[LoadResult], origin: Origin = ORIGIN) -> Experiment:
        return read_experiment(write(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl.gz", runs, origin))

    return make


def test_measured_figures_keep_their_kind_and_source(made: Made) -> None:
    (case,) = cases([made(everything())], PRICES)
    assert isinstance(case.answer, Answer)
    inputs = case.answer.inputs
    assert {name for name, held in inputs.items() if held.kind == "measured"} == {
        "queries_per_minute", "prompt_tokens", "output_tokens", "abstain_share",
    }  # fmt: skip
    assert all("0 on CPU (Made-up CPU, 2 cores)" in held.source for held in inputs.values() if held.kind == "measured")
    assert inputs["usd_per_gpu_hour"].kind == "assumed"
    assert inputs["api_input_usd_per_mtok"].kind == "quoted"
    assert inputs["api_input_usd_per_mtok"].as_of
    assert len(measures(case)) == len(inputs)


def test_the_rate_counts_answers(made: Made) -> None:
    (case,) = cases([made(sweep())], PRICES)
    assert isinstance(case.answer, Answer)
    assert not isinstance(case.findings.sweep, Gap)
    assert not isinstance(case.findings.sweep.rate, Gap)
    per_minute = case.answer.inputs["queries_per_minute"].value
    # One request in 25 is declined.
    assert float(per_minute) == pytest.approx(60 * case.findings.sweep.rate.queries_per_s * 0.96, rel=1e-6)


def test_a_simulation_measures_nothing(made: Made) -> None:
    (case,) = cases([made(everything("simulated"))], PRICES)
    assert isinstance(case.answer, Answer)
    inputs = case.answer.inputs
    assert not [name for name, held in inputs.items() if held.kind == "measured"]
    assert inputs["queries_per_minute"].source == SIMULATED
    assert caveat(case).startswith("SIMULATED")


def test_machines_are_kept_apart_and_gpus_come_first(made: Made) -> None:
    found = cases([made(sweep("simulated")), made(sweep()), made(sweep(), ON_GPU)], PRICES)
    assert [(case.fingerprint.gpu, case.fingerprint.simulated) for case in found] == [
        (True, False), (False, False), (False, True),
    ]  # fmt: skip


def test_two_files_of_one_machine_are_one_case(made: Made) -> None:
    (case,) = cases([made(sweep()), made(grid())], PRICES)
    assert case.files == "0, 1"
    assert not isinstance(case.findings.sweep, Gap)
    assert not isinstance(case.findings.demand, Gap)


def test_other_objectives_are_refused(made: Made) -> None:
    with pytest.raises(ResultsError, match="one by one"):
        cases([made(sweep()), made(sweep(objectives=Slo(e2e_s=5)))], PRICES)


def test_without_a_rate_nobody_can_say(made: Made) -> None:
    (case,) = cases([made(comparison("x", {"a": (0.1, 0.1), "b": (0.2, 0.2)}))], PRICES)
    assert isinstance(case.answer, Gap)
    assert (
        headline(case)
        == "Nobody can say yet: the rate within the objectives is not measured: no sweep of rates was run."
    )
    assert replies(case) == measures(case) == ()


def test_a_fitted_demand_stands_in_for_a_sweep(made: Made) -> None:
    (case,) = cases([made(grid())], PRICES)
    assert isinstance(case.answer, Answer)
    assert case.answer.inputs["decode_gpu_s_per_token"].kind == "modelled"
    assert case.answer.inputs["max_utilisation"].kind == "assumed"


def test_what_the_user_says_comes_over_what_is_assumed(made: Made) -> None:
    (case,) = cases([made(sweep())], PRICES, {"fte": "0", "volume": "1M", "hosted": "gpt-4o"})
    assert isinstance(case.answer, Answer)
    assert case.answer.inputs["fte"].value == 0
    assert case.answer.volume == Decimal(1_000_000)
    assert [one.model for one in case.answer.comparisons] == ["gpt-4o"]


def test_a_price_that_nobody_stated_is_asked_for(made: Made) -> None:
    unpriced = [
        replace(each, header=replace(each.header, server={}), rows=tuple(replace(row, cost=None) for row in each.rows))
        for each in sweep()
    ]
    with pytest.raises(ResultsError, match="usd_per_gpu_hour"):
        cases([made(unpriced)], PRICES)
    (case,) = cases([made(unpriced)], PRICES, {"usd_per_gpu_hour": "2"})
    assert isinstance(case.answer, Answer)
    assert case.answer.inputs["usd_per_gpu_hour"].value == 2


def test_nothing_is_no_report() -> None:
    with pytest.raises(ResultsError, match="at least one"):
        cases([], PRICES)


def test_an_unknown_input_is_a_mistake(made: Made) -> None:
    with pytest.raises(BenchmarkError, match="did you mean"):
        cases([made(sweep())], PRICES, {"fte_": "1"})


def test_an_interrupted_experiment_says_so(made: Made) -> None:
    runs = [replace(each, header=replace(each.header, labels={**each.header.labels, "cells": 99})) for each in sweep()]
    (case,) = cases([made(runs)], PRICES)
    assert case.notes[0] == "0 is not complete: 8 of 99 runs"
