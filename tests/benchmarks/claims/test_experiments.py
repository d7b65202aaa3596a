"""Claims read experiments: an A10G's only from an A10G, a CPU's marked as such, a simulation's never."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.claims.judging import Verdict, judge
from benchmarks.claims.measurements import Results
from benchmarks.claims.reading import read_book
from benchmarks.claims.wording import reason
from benchmarks.errors import ClaimError
from benchmarks.load.record import LoadResult
from benchmarks.origin import Origin
from tests.benchmarks.report.made_results import GPU, ORIGIN, everything, write

BOOK = read_book()
ON_A10G = replace(ORIGIN, gpus=(GPU,), packages={"vllm": "0.26.0"})


def judged(claim: str, root: Path) -> Verdict:
    return judge(BOOK.claims[claim], Results(root))


def put(root: Path, runs: list[LoadResult], origin: Origin) -> None:
    folder = root / "benchmarks" / "results" / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"r{len(list(folder.iterdir()))}.jsonl.gz", runs, origin)


def test_without_an_a10g_its_claims_are_inverted(tmp_path: Path) -> None:
    for name in ("D27", "D29", "D50"):
        verdict = judged(name, tmp_path)
        assert verdict.inverted
        assert "threshold inversion" in reason(verdict)


def test_a_cpu_says_nothing_about_an_a10g(tmp_path: Path) -> None:
    put(tmp_path, everything(), ORIGIN)
    for name in ("D27", "D29", "D50"):
        assert judged(name, tmp_path).inverted


def test_an_a10g_that_was_measured_decides(tmp_path: Path) -> None:
    put(tmp_path, everything(), ON_A10G)
    verdict = judged("D27", tmp_path)
    assert (verdict.outcome, verdict.evidence, verdict.inverted) == ("holds", "measured", False)
    assert "measured on a NVIDIA A10G" in reason(verdict)
    assert not judged("D50", tmp_path).inverted


def test_retrieval_is_slower_as_far_as_its_interval_says(tmp_path: Path) -> None:
    assert judged("B07", tmp_path).outcome == "not_yet_measured"
    put(tmp_path, everything(), ORIGIN)
    verdict = judged("B07", tmp_path)
    assert (verdict.outcome, verdict.evidence) == ("holds", "measured")
    assert "measured on a CPU" in reason(verdict)


def test_a_simulation_among_the_results_is_refused(tmp_path: Path) -> None:
    put(tmp_path, everything("simulated"), ORIGIN)
    with pytest.raises(ClaimError, match="measures nothing"):
        judged("B07", tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "results" / "experiments"
    folder.mkdir(parents=True)
    (folder / "broken.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(ClaimError, match=r"cannot use the results file broken\.jsonl\.gz"):
        judged("B07", tmp_path)
