"""A whole evaluation over HTTP: what goes into the manifest, what continues after a death, what is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapters.registry import AdapterVersion, Registry
from benchmarks.adapter_eval import endpoint as client
from benchmarks.adapter_eval.kept import Kept, key_of
from benchmarks.adapter_eval.questions import TaskError
from benchmarks.adapter_eval.run import Plan, Result, evaluate
from benchmarks.adapter_eval.task import Answer, Ask
from benchmarks.adapter_eval.tasks import load_task
from benchmarks.errors import EndpointError
from tests.adapters.conftest import MakeAdapter
from tests.benchmarks.adapter_eval.endpoints import Endpoint, Say, endpoint

COLOURS = ["red", "blue"] * 10


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


@pytest.fixture
def version(registry: Registry, make_adapter: MakeAdapter) -> AdapterVersion:
    return registry.install(make_adapter())


@pytest.fixture
async def served(version: AdapterVersion) -> AsyncIterator[Endpoint]:
    async with endpoint(version.engine_name, saying("red")) as found:
        yield found


def saying(text: str) -> Say:
    return lambda _path, _body: (200, text)


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    said = [{"role": "user", "content": "which?"}, {"role": "assistant", "content": "red"}]
    rows = [[{**said[0], "content": f"{number}?"}, {**said[1], "content": each}] for number, each in enumerate(COLOURS)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    path = tmp_path / "task.toml"
    path.write_text('name = "colours"\nkind = "classification"\ndata = "data.jsonl"\n')
    return path


def plan_for(version: AdapterVersion, served: Endpoint, work: Path, **more: Any) -> Plan:
    asking = client.Endpoint(served.url, None, concurrency=3, pause_s=0.01)
    return replace(Plan(version, asking, work / "work", "breakeven eval adapter demo --task task.toml"), **more)


async def run(plan: Plan, file: Path, registry: Registry, out: Path | None = None) -> tuple[Result, str]:
    output = Console(record=True, width=200)
    (result,) = await asyncio.to_thread(evaluate, plan, [load_task(file)], registry, out, output)
    return result, output.export_text()


async def test_scores_go_into_the_manifest_with_command_and_interval(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    result, printed = await run(plan_for(version, served, tmp_path), task_file, registry, tmp_path / "out" / "r.json")
    assert {body["model"] for body in served.asked} == {"demo"}
    manifest = registry.resolve(version.engine_name).manifest
    (score,) = [each for each in manifest.scores if each.name == "colours.accuracy"]
    assert (score.value, score.n) == (0.5, 20)
    assert (score.low, score.high) == (pytest.approx(0.2993, abs=1e-4), pytest.approx(0.7007, abs=1e-4))
    assert score.command == "breakeven eval adapter demo --task task.toml"
    assert score.commit
    measured = {each.name: each for each in manifest.measurements}
    assert measured["cost_usd"].value == pytest.approx(1e-6)
    assert measured["latency_s"].n == 20
    # What training scored is still there.
    assert "format_gained" in [each.name for each in manifest.scores]
    assert json.loads((tmp_path / "out" / "r.json").read_text())[0]["figures"][0]["value"] == 0.5
    assert "colours.accuracy: 0.5 (n 20, 95 %" in printed
    assert result.origin.cores > 0


async def test_a_served_model_is_measured_without_an_adapter(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    plan = replace(plan_for(version, served, tmp_path), adapter=None, served="plain")
    result, printed = await run(plan, task_file, registry, tmp_path / "r.json")
    assert {body["model"] for body in served.asked} == {"plain"}
    assert (result.adapter, result.served, result.figures[0].value) == (None, "plain", 0.5)
    assert "20 questions to plain\n" in printed
    assert registry.resolve(version.engine_name).manifest == version.manifest
    with pytest.raises(TaskError, match="name an adapter or a served model"):
        await run(replace(plan, served=None), task_file, registry)


async def test_a_broken_off_evaluation_is_continued(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    plan, good = plan_for(version, served, tmp_path), served.say
    served.say = lambda path, body: good(path, body) if len(served.asked) <= 12 else (403, "gone")
    with pytest.raises(EndpointError, match="answers are kept: run the same command again"):
        await run(plan, task_file, registry)
    first = {body["messages"][-1]["content"] for body in served.asked[:12]}
    served.asked.clear()
    served.say = good
    result, _ = await run(plan, task_file, registry)
    second = {body["messages"][-1]["content"] for body in served.asked}
    assert result.questions == 20
    assert len(second) == 20 - 12
    assert not first & second
    # A finished one is measured anew.
    served.asked.clear()
    await run(plan, task_file, registry)
    assert len(served.asked) == 20


async def test_a_busy_endpoint_is_asked_again(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.say = lambda _, __: (503, "starting") if len(served.asked) % 2 else (200, "blue")
    result, _ = await run(plan_for(version, served, tmp_path), task_file, registry)
    assert (result.questions, result.refused, len(served.asked)) == (20, 0, 40)


async def test_refused_requests_count_as_wrong_and_are_told(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.say = lambda _, body: (400, "too long") if body["messages"][-1]["content"] == "0?" else (200, "red")
    result, printed = await run(plan_for(version, served, tmp_path), task_file, registry)
    assert (result.refused, result.figures[0].value) == (1, 0.45)
    assert "1 requests were refused and count as wrong" in printed


async def test_simulated_answers_stay_out_of_the_manifest(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.simulated = True
    _, printed = await run(plan_for(version, served, tmp_path), task_file, registry)
    assert "SIMULATED" in printed
    assert registry.resolve(version.engine_name).manifest == version.manifest


async def test_another_version_that_answers_is_noticed(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.version = "demo@000000000000"
    with pytest.raises(TaskError, match="answered with demo@000000000000"):
        await run(plan_for(version, served, tmp_path), task_file, registry)


async def test_a_version_that_no_served_model_has_is_asked_by_its_own_name(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.models = [model for model in served.models if model["id"] != "demo"]
    await run(plan_for(version, served, tmp_path), task_file, registry)
    assert {body["model"] for body in served.asked} == {version.engine_name}


async def test_against_asks_another_model_the_same(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.say = lambda _, body: (200, "red" if body["model"] == "base" else "blue")
    result, printed = await run(plan_for(version, served, tmp_path, against="base"), task_file, registry)
    assert result.against_model == "base"
    assert [figure.value for figure in result.against] == [0.5, pytest.approx(1 / 3)]
    assert "base: 0.5" in printed


@pytest.fixture
def forgetting_file(tmp_path: Path) -> Path:
    rows = [{"messages": [{"role": "user", "content": "capital of Italy?"}], "answers": ["Rome"]}]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "texts.txt").write_text("one two three")
    path = tmp_path / "general.toml"
    path.write_text('name = "general"\nkind = "forgetting"\ndata = "data.jsonl"\ntexts = "texts.txt"\n')
    return path


async def test_forgetting_finds_the_base_by_itself(
    version: AdapterVersion, served: Endpoint, registry: Registry, forgetting_file: Path, tmp_path: Path
) -> None:
    def say(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        base = body["model"] == "base"
        if path == "/chat/completions":
            return 200, "Rome" if base else "Milan"
        tokens = [None, {"5": {"logprob": -1.0}}, {"7": {"logprob": -1.0 if base else -3.0}}]
        return 200, {"text": " four", "prompt_logprobs": tokens}

    served.say = say
    await run(plan_for(version, served, tmp_path), forgetting_file, registry)
    measured = {each.name: each.value for each in registry.resolve(version.engine_name).manifest.measurements}
    assert measured["forgetting"] == 1
    assert measured["perplexity_ratio"] == pytest.approx(2.718282, abs=1e-5)
    assert measured["general.perplexity"] == pytest.approx(7.389056, abs=1e-5)


async def test_no_endpoint_is_one_clear_line(
    version: AdapterVersion, served: Endpoint, registry: Registry, task_file: Path, tmp_path: Path
) -> None:
    served.url = "http://127.0.0.1:9/v1"
    with pytest.raises(EndpointError, match="breakeven serve"):
        await run(plan_for(version, served, tmp_path), task_file, registry)


def test_a_half_written_answer_is_asked_again(tmp_path: Path) -> None:
    keys = [key_of(Ask("/x", {"n": n})) for n in range(3)]
    with Kept(tmp_path, "one") as kept:
        kept.add(keys[0], Answer("whole", 1.0))
        kept.add(keys[1], Answer("", 1.0, error="HTTP 400"))
        kept.add(keys[2], Answer("cut", 1.0))
    path = tmp_path / "one.partial.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with Kept(tmp_path, "one") as kept:
        assert [kept.good(key) for key in keys] == [True, False, False]
        kept.add(keys[2], Answer("again", 1.0))
    with Kept(tmp_path, "one") as kept:
        assert kept.answers[keys[2]].text == "again"
        assert kept.finish() == tmp_path / "one.jsonl"
