"""A document is changed and asked about: over a gateway of ours, whose simulated engine repeats what it is given."""

import dataclasses
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from rich.console import Console

from benchmarks.errors import EndpointError
from benchmarks.experiments.document import document
from benchmarks.experiments.freshness import KNOWLEDGE, LEAST_CHANGES, NOT_SHOWN, changes
from benchmarks.experiments.plan import read_plan
from benchmarks.experiments.results import Experiment
from benchmarks.experiments.running import Endpoint, run_experiment
from benchmarks.load.files import read_results
from benchmarks.load.record import LoadResult
from benchmarks.prices import load_prices
from serving.auth import LOCAL_OPERATOR
from tests.benchmarks.load.fake_openai import FakeOpenAI
from tests.serving.gateways import Running, running, settings_for

# So many tokens that the repeated prompt gets as far as the passage, or stops before it.
FAR, SHORT = 400, 4


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path / "home", engine={"simulated_tokens": FAR})) as found:
        yield found


async def ran(tmp_path: Path, url: str, requests: int = LEAST_CHANGES, tokens: int = FAR) -> tuple[Experiment, str]:
    step = {"id": "change", "kind": "change", "model": "books", "requests": requests, "max_tokens": tokens, "warmup": 1}
    path, said = tmp_path / "tiny.yaml", StringIO()
    path.write_text(yaml.safe_dump({"name": "tiny", "objectives": {"ttft_s": 5}, "steps": [step]}))
    console = Console(file=said, width=400)
    held = await run_experiment(read_plan(path), Endpoint(f"{url}/v1"), tmp_path / "out.jsonl", console, "tiny")
    return held, said.getvalue()


async def test_every_change_is_shown_and_the_document_is_gone_afterwards(tmp_path: Path, stack: Running) -> None:
    held, said = await ran(tmp_path, stack.url)
    assert "no evidence" not in said
    (run,) = held.runs
    assert [row.error for row in run.rows] == [None] * LEAST_CHANGES
    found = changes([run.result])
    assert found is not None
    assert (found.model, found.made, found.shown) == ("books", LEAST_CHANGES, LEAST_CHANGES)
    assert 0 < found.seconds.low <= found.seconds.value <= found.seconds.high
    # The clock runs from the change, not from the question.
    assert all(row.scheduled_s < row.sent_s for row in run.rows)
    names = await stack.gateway.knowledge.names(LOCAL_OPERATOR)
    assert KNOWLEDGE not in names


async def test_answers_without_the_change_are_asked_again_and_are_no_evidence(tmp_path: Path, stack: Running) -> None:
    with pytest.raises(Exception, match="holds no run that can be used"):
        await ran(tmp_path, stack.url, tokens=SHORT)
    (result,) = read_results(tmp_path / "out.jsonl").runs
    assert {row.error for row in result.rows} == {NOT_SHOWN}
    assert len(result.rows) > LEAST_CHANGES
    assert changes([result]) is None
    assert "an answer showed 0 changes" in result.errors[0]


async def test_the_first_answer_that_shows_it_counts(tmp_path: Path, stack: Running) -> None:
    held, _ = await ran(tmp_path, stack.url)
    result = held.runs[0].result
    early = [dataclasses.replace(row, error=NOT_SHOWN, last_s=row.scheduled_s) for row in result.rows]
    late = [dataclasses.replace(row, last_s=row.scheduled_s + 3) for row in result.rows]
    found = changes([LoadResult(result.header, (*early, *late))])
    assert found is not None
    assert found.seconds.value == pytest.approx(3)
    assert found.made == LEAST_CHANGES


async def test_an_endpoint_whose_documents_cannot_be_changed_is_one_line(tmp_path: Path) -> None:
    fake = FakeOpenAI()
    fake.names = ["books"]
    runner = web.AppRunner(fake.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    with pytest.raises(EndpointError, match="operator's key"):
        await ran(tmp_path, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


async def test_a_simulation_gives_the_claims_no_figure(tmp_path: Path, stack: Running) -> None:
    await ran(tmp_path, stack.url)
    with pytest.raises(Exception, match="simulated"):
        document(tmp_path / "out.jsonl", load_prices())
