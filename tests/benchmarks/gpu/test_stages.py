"""The GPU experiment with a fake engine in vLLM's place: what is asked of it, and what is left behind."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.economics.demand_fit import ShapeRun, fit_demand
from benchmarks.errors import PlanError
from benchmarks.gpu.__main__ import STAGES, make_setup, run_stages
from benchmarks.gpu.scale import FULL, TINY
from benchmarks.gpu.servers import Engine
from benchmarks.gpu.setup import MODEL, Setup
from benchmarks.load.files import read_results
from benchmarks.measurements import shape_runs, sweep_points
from benchmarks.prices import load_prices
from serving.accounting.cost import GpuPrice
from tests.benchmarks.gpu.small_base import small_base
from tests.benchmarks.load.fake_openai import FakeOpenAI

LOAD_STAGES = [name for name in STAGES if name not in ("fingerprint", "correctness", "training")]


@dataclass
class FakeSite:
    """Both servers are one fake; `started` has what was asked for."""

    server: FakeOpenAI
    gpu: bool = False
    name: str = "a CPU"
    started: list[Engine] = field(default_factory=list)

    @property
    def price(self) -> GpuPrice:
        return load_prices().cpu

    @contextmanager
    def engine(self, engine: Engine) -> Iterator[str]:
        self.started.append(engine)
        yield self.server.url

    @contextmanager
    def gateway(self, engine_url: str, model: str, home: Path) -> Iterator[str]:
        home.mkdir(parents=True)
        assert model == MODEL
        yield engine_url


@pytest.fixture
def site(server: FakeOpenAI) -> FakeSite:
    server.names = [MODEL, "adapter-0", "adapter-1"]
    return FakeSite(server)


@pytest.fixture
def setup(site: FakeSite, tmp_path: Path) -> Setup:
    scale = replace(TINY, run_s=0.3)
    return Setup(scale, site, tmp_path / "out", tmp_path / "work", small_base(tmp_path / "base"), Console(quiet=True))


async def test_every_load_stage_leaves_runs_that_feed_the_model(setup: Setup, site: FakeSite) -> None:
    assert await asyncio.to_thread(run_stages, setup, LOAD_STAGES) == []
    found = {name: read_results(setup.out / f"{name}.jsonl.gz").runs for name in LOAD_STAGES}
    assert all(run.errors == () and run.rows for runs in found.values() for run in runs)
    assert [run.header.labels["adapters"] for run in found["adapters"]] == [0, 1, 2]
    assert {row.model for row in found["adapters"][2].rows} == {"adapter-0", "adapter-1"}
    assert [run.header.labels["via"] for run in found["gateway"]] == ["direct", "gateway"] * 3
    assert len(sweep_points(found["sweep-rag"])) == 2
    cells = shape_runs(found["grid"])
    assert len(cells) == len(TINY.grid) * len(TINY.grid_concurrency)
    assert [run.header.labels["prefix_cache"] for name in ("prefix-on", "prefix-off") for run in found[name]] == [
        "on",
        "off",
    ]
    # One engine for the stages without adapters, one without the cache, one with adapters.
    assert [len(engine.adapters) for engine in site.started] == [0, 0, 2]
    assert "--no-enable-prefix-caching" in site.started[1].arguments


async def test_a_stage_with_a_result_is_not_repeated(setup: Setup, site: FakeSite) -> None:
    assert await asyncio.to_thread(run_stages, setup, ["base"]) == []
    before = (setup.out / "base.jsonl.gz").read_bytes()
    asked = len(site.server.bodies)
    assert await asyncio.to_thread(run_stages, setup, ["base"]) == []
    assert (len(site.server.bodies), (setup.out / "base.jsonl.gz").read_bytes()) == (asked, before)


async def test_a_stage_that_fails_leaves_no_result_and_costs_only_its_own(setup: Setup, site: FakeSite) -> None:
    site.server.names = ["adapter-0", "adapter-1"]  # no base model: only requests to adapters can work
    failed = await asyncio.to_thread(run_stages, setup, ["fingerprint", "base", "grid"])
    assert failed == ["base", "grid"]
    assert sorted(path.name for path in setup.out.iterdir()) == ["fingerprint.json"]
    site.server.names.append(MODEL)
    assert await asyncio.to_thread(run_stages, setup, ["fingerprint", "base", "grid"]) == []


async def test_no_stage_begins_when_the_time_is_over(setup: Setup, site: FakeSite) -> None:
    assert await asyncio.to_thread(run_stages, setup, ["fingerprint", "base"], -1.0) == ["fingerprint", "base"]
    assert site.started == []


async def test_results_say_where_they_come_from(setup: Setup) -> None:
    assert await asyncio.to_thread(run_stages, setup, ["fingerprint", "base"]) == []
    origin = read_results(setup.out / "base.jsonl.gz").origin
    assert origin.command == "python -m benchmarks.gpu base --scale tiny --device cpu"
    (run, *_) = read_results(setup.out / "base.jsonl.gz").runs
    assert (run.header.labels["device"], run.header.labels["scale"]) == ("cpu", "tiny")
    assert str(setup.work) not in json.dumps(run.header.labels)
    document = json.loads((setup.out / "fingerprint.json").read_text())
    assert document["price"]["usd_per_hour"] == "0.10"


def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    quiet = Console(quiet=True)
    with pytest.raises(PlanError, match=r"serving\.engine\.weights"):
        make_setup(tmp_path, tmp_path, tmp_path, "tiny", "cpu", quiet)


def test_the_command_line_differs_between_gpu_and_cpu(tmp_path: Path) -> None:
    engine = Engine(tmp_path, "m", {"a": tmp_path, "b": tmp_path}, 16)
    gpu, cpu = engine.command(1, gpu=True), engine.command(1, gpu=False)
    assert gpu[gpu.index("--max-loras") + 1] == "2"
    assert cpu[cpu.index("--max-loras") + 1] == "3", "the last slot stays empty"
    assert ("--gpu-memory-utilization" in gpu, "--gpu-memory-utilization" in cpu) == (True, False)


def test_the_full_grid_identifies_the_demand() -> None:
    """With demand as the model has it, the grid gives its terms back; a grid that could not would be refused."""
    cells = [
        ShapeRun(prompt, output, concurrency, 0.001 + 2e-5 * prompt + 1e-5 * output + 6e-3 * output / concurrency)
        for prompt, output in FULL.grid
        for concurrency in FULL.grid_concurrency
    ]
    fit = fit_demand(cells, draws=10)
    assert fit.prefill_gpu_s_per_token.value == pytest.approx(2e-5, rel=0.01)
    assert fit.step_gpu_s_per_token is not None
    assert fit.step_gpu_s_per_token.value == pytest.approx(6e-3, rel=0.01)
