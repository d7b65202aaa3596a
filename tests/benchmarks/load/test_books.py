"""Client and Prometheus are two books of one run: they agree, or the run is no evidence."""

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.economics.demand_fit import fit_demand
from benchmarks.economics.measured import window_figures
from benchmarks.economics.sweep import slo_rate
from benchmarks.errors import EndpointError, MismatchError, ModelError
from benchmarks.load.experiment import bench, experiment
from benchmarks.load.files import read_results
from benchmarks.load.plan import Slo, Target, Tenant
from benchmarks.load.reconcile import Comparison, compare
from benchmarks.load.run import run_load
from benchmarks.load.summary import summarise
from benchmarks.load.sweep import Search, keeps
from benchmarks.measurements import observed, shape_runs, sweep_points
from tests.benchmarks.load.fake_openai import FakeOpenAI, plan


async def test_both_books_agree_and_the_cost_is_the_servers(server: FakeOpenAI) -> None:
    server.counted = {"requests": 100, "prompt": 700, "completion": 300}  # of before
    result = await run_load(plan(server, requests=10))
    assert [(each.quantity, each.gap) for each in compare(result)] == [
        ("requests", 0.0),
        ("prompt tokens", 0.0),
        ("completion tokens", 0.0),
        ("allocation cost, USD", pytest.approx(0.0, abs=1e-9)),
        ("usage cost, USD", pytest.approx(0.0, abs=1e-9)),
    ]
    assert result.errors == ()
    found = summarise(result).counted_cost
    assert found is not None
    assert (found.queries, found.busy_share) == (10, 0.25)
    assert (found.allocation_usd, found.bill_usd) == pytest.approx((0.00003, 0.001))
    assert result.header.server["kind"] == "other"
    assert result.header.server["version"] == "0.1.0"
    price = {"usd_per_hour": 1.5, "as_of": "2026-11-01", "basis": "quoted", "id": "a10g", "source": "list"}
    assert result.header.server["price"] == price


async def test_traffic_beside_the_run_is_an_error_in_the_result_and_of_the_command(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    server.beside = 1
    out = tmp_path / "run.jsonl"
    with pytest.raises(MismatchError, match=r"no evidence; requests: the client counted 4, .* 8, a gap of 50"):
        await asyncio.to_thread(bench, plan(server), out, Console(file=io.StringIO()))
    (run,) = read_results(out).runs
    assert len(run.errors) == 5
    with pytest.raises(ModelError, match="is no evidence"):
        observed(run)


@pytest.mark.parametrize(("counted", "agrees"), [(98, True), (97, False), (102, True), (103, False)])
def test_two_percent_are_tolerated(counted: int, agrees: bool) -> None:
    assert Comparison("page", "requests", 100, counted).within == agrees


async def test_a_page_that_was_named_must_be_there(server: FakeOpenAI) -> None:
    server.has_metrics = False
    result = await run_load(plan(server))
    assert (result.counted, compare(result), result.errors) == ((), (), ())
    with pytest.raises(EndpointError, match=r"no Prometheus page .*; correct --metrics"):
        await run_load(plan(server, metrics=(f"{server.url}/metrics",)))
    with pytest.raises(ModelError, match="no Prometheus page"):
        observed(result)


async def test_warm_up_is_not_counted_by_either_book(server: FakeOpenAI) -> None:
    result = await run_load(plan(server, warmup=5))
    assert len(server.bodies) == 9
    assert len(result.rows) == 4
    assert result.errors == ()


async def test_a_mix_of_models_and_tenants_is_dealt_out_by_the_seed(server: FakeOpenAI) -> None:
    targets, tenants = (Target("whole", 3.0), Target("abstains")), (Tenant("a", "sk-a"), Tenant("b", "sk-b"))
    runs = [
        await run_load(plan(server, requests=200, concurrency=8, targets=targets, tenants=tenants, seed=seed))
        for seed in (1, 1, 2)
    ]
    dealt = [{row.index: (row.model, row.tenant) for row in run.rows} for run in runs]
    assert dealt[0] == dealt[1] != dealt[2]
    assert 0.65 < sum(model == "whole" for model, _ in dealt[0].values()) / 200 < 0.85
    assert set(server.keys) == {"Bearer sk-a", "Bearer sk-b"}
    summary = summarise(runs[0])
    assert [part.name for part in summary.by_tenant] == ["a", "b"]
    assert sum(part.requests for part in summary.by_model) == 200


async def test_a_sweep_stops_at_the_knee(server: FakeOpenAI, tmp_path: Path) -> None:
    """The server has four places of 20 ms, so that it cannot do 200 requests a second."""
    server.places = asyncio.Semaphore(4)
    server.wait_s = 0.02
    out = tmp_path / "sweep.jsonl.gz"
    slo = Slo(ttft_s=0.1)
    page = io.StringIO()
    a_plan = plan(server, duration_s=0.6, slo=slo)
    await asyncio.to_thread(bench, a_plan, out, Console(file=page, width=120), Search(50.0, halvings=2))
    runs = read_results(out).runs
    rates = [run.header.rate for run in runs]
    assert rates[:2] == [50.0, 100.0]
    assert len(rates) == len(set(rates)) >= 5
    kept = [keeps(summarise(run)) for run in runs]
    assert True in kept
    assert False in kept
    found = slo_rate(sweep_points(runs), slo)
    assert 50 < found.queries_per_s < 400
    assert not found.open_ended
    assert "missed" in page.getvalue()


async def test_runs_feed_the_economic_model(server: FakeOpenAI, tmp_path: Path) -> None:
    server.wait_s = 0.01
    run = await run_load(plan(server, requests=10))
    figures = window_figures(observed(run), "a run")
    assert (figures["prompt_tokens"].value, figures["output_tokens"].value) == (7, 3)
    with experiment(tmp_path / "grid.jsonl", "test") as made:
        runs = [await asyncio.to_thread(made.run, plan(server, requests=8, concurrency=c)) for c in (1, 2, 4)]
    cells = shape_runs(runs)
    assert [cell.concurrency for cell in cells] == [1, 2, 4]
    assert cells[0].gpu_s > 1.5 * cells[2].gpu_s, "four at a time share the seconds"
    with pytest.raises(ModelError, match="cannot identify"):
        fit_demand(cells)
