"""The evaluation on a set small enough to know the answer by hand."""

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.beir import JudgedSetError, load
from benchmarks.retrieval_eval import STAGES, latencies, run
from benchmarks.retrieval_latency import measure
from retrieval.hashing import HashingEmbedder

CORPUS = [
    {"_id": "d1", "title": "Leave", "text": "Annual leave is 28 days."},
    {"_id": "d2", "title": "", "text": "The rain gauge is red.", "metadata": {}},
    {"_id": "d3", "text": "Pumps are primed before they start."},
    {"_id": "d4", "title": "  ", "text": ""},
]
QUERIES = [
    {"_id": "q1", "text": "annual leave days"},
    {"_id": "q2", "text": "rain gauge red"},
    {"_id": "q3", "text": "nobody judged this"},
]
# q2 asks for the gauge, and the judges say that leave answers it a little and the gauge does not: the second place.
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t-1\nq2\td1\t1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    (root / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", CORPUS), ("queries", QUERIES)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (root / "qrels" / "test.tsv").write_text(QRELS)
    return root


def test_loads_the_beir_layout(folder: Path) -> None:
    judged = load(folder)
    assert judged.name == "tiny"
    assert judged.documents == {
        "d1": "# Leave\n\nAnnual leave is 28 days.",
        "d2": "The rain gauge is red.",
        "d3": "Pumps are primed before they start.",
    }
    assert judged.queries == {"q1": "annual leave days", "q2": "rain gauge red"}
    assert judged.judgements == {"q1": {"d1": 2, "d3": 0}, "q2": {"d1": 1}}


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("corpus.jsonl", "", "right folder"),
        ("corpus.jsonl", '{"_id": "d1"}\n', r"corpus.jsonl:1: needs an object with _id and text"),
        ("queries.jsonl", "[1]\n", r"queries.jsonl:1"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}\n', "lacks 1 judged queries, such as 'q2'"),
        ("qrels/test.tsv", "head\nq1 d1 1\n", r"test.tsv:2: .*tabs"),
        ("qrels/test.tsv", "head\nq1\td1\thigh\n", r"test.tsv:2"),
    ],
)
def test_what_is_no_test_set_is_named(folder: Path, file: str, text: str, says: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(JudgedSetError, match=says):
        load(folder)


def test_a_missing_file_says_what_a_test_set_is(tmp_path: Path) -> None:
    with pytest.raises(JudgedSetError, match=r"a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv"):
        load(tmp_path)


def test_measures_what_the_pipeline_finds(folder: Path, tmp_path: Path) -> None:
    console = Console(record=True, width=140)
    run([folder], HashingEmbedder, tmp_path / "out", console)
    written = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert (written["documents"], written["passages"], written["queries"]) == (3, 3, 2)
    assert written["embedder"] == "hashing"
    assert written["origin"]["command"] == "breakeven eval retrieval tiny"
    dense = written["modes"]["dense"]["measures"]
    assert dense["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3)) / 2, abs=1e-4)
    assert (dense["mrr@10"], dense["recall@10"], dense["recall@100"]) == (0.75, 1.0, 1.0)
    lexical = written["modes"]["lexical"]["measures"]
    assert (lexical["ndcg@10"], lexical["recall@10"]) == (0.5, 0.5)  # leave shares no word with the rain gauge
    hybrid = written["modes"]["hybrid"]
    assert hybrid["measures"] == dense
    assert set(hybrid["latency_ms"]) == set(STAGES)
    assert "0.8155" in console.export_text()


def test_latencies_are_percentiles_by_stage() -> None:
    found = latencies([{"embed": n / 1000, "dense": 0.002} for n in range(101)])
    assert found == {
        "embed": {"p50": 50.0, "p99": 99.0},
        "dense": {"p50": 2.0, "p99": 2.0},
        "total": {"p50": 52.0, "p99": 101.0},
    }


def test_timing_covers_every_way_of_asking(tmp_path: Path) -> None:
    timing = measure(tmp_path / "60", 60, HashingEmbedder(), "as in the test", Console(quiet=True))
    assert timing.passages == timing.built.passages == 60
    assert set(timing.latency_ms) == {"hybrid", "dense", "lexical", "hybrid, 1 % visible", "hybrid, filter on 10 %"}
    assert all(stages["total"]["p50"] > 0 for stages in timing.latency_ms.values())
    assert timing.recall_at_100 == {"dense": 1.0, "1 % visible": 1.0, "filter on 10 %": 0.0}  # no part 3 in 3 documents
    assert timing.origin.command == "as in the test"
