"""The scale-out overlay with two real vLLMs: documents, an adapter on both engines, a kill, and rolling restarts.

Everything else that the overlay must stand is in tests/manifests, with engines that have no model. The tests are one
story on one stack, in this order. An engine takes most of a minute to start, so what can happen meanwhile does.
"""

import asyncio
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import pytest

from serving.engine.arguments import cpu_variables
from serving.engine.checkpoint import prepare_weights
from serving.engine.device import detect
from serving.engine.weights import EMBEDDED_MODEL
from serving.sections import Engine
from tests.conftest import HOME, ROOT
from tests.manifests.load import Load, Outcome
from tests.manifests.machine import Programs
from tests.manifests.pod import Pod
from tests.manifests.stack import Stack, running

pytestmark = pytest.mark.e2e
ADAPTER = ROOT / "examples" / "support" / "adapter"
CONFIGURATION = {
    "knowledge": {"handbook": {"paths": ["/opt/breakeven/examples/handbook/people/annual-leave.md"]}},
    "models": {"support": {"adapter": "support", "defaults": {"max_tokens": 12}}},
}
# A minute of loading must not look like a dead engine: its startup probe gives it half an hour.
PACE = 5
# Seconds of answering: when its engine is to end, one is in the middle of it.
LONG = {"max_tokens": 300, "ignore_eos": True}
# Cores are for the engines that start.
SHORT = {"max_tokens": 8}


def _on_a_cpu(arguments: list[str], variables: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """What a CPU build needs beside the manifest's arguments."""
    own = cpu_variables(Engine.model_validate({}), detect(), {})
    # Two engines have the same cores: threads of one that spin while they wait keep the other from what they wait for.
    own |= {"OMP_WAIT_POLICY": "PASSIVE"}
    # The engine core computes itself, rather than in a third process that would import everything once more.
    own |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    # What vLLM finds out about a model's class by importing everything yet another time.
    own |= {"VLLM_CACHE_ROOT": str(HOME / "cache" / "vllm")}
    return [*arguments, "--max-num-batched-tokens", "1024", "--enforce-eager"], {**variables, **own}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two gateways with the real embedder before two engines with the model of 135 million parameters."""
    weights = asyncio.run(prepare_weights(HOME, lambda _: None))
    models = {"model-weights": weights.parent}
    programs = Programs("breakeven", "vllm.entrypoints.openai.api_server", PACE, _on_a_cpu)
    folder = tmp_path_factory.mktemp("operator")
    with running(folder, programs, CONFIGURATION, weights.name, models, within_s=300) as found:
        yield found


@pytest.fixture(scope="module")
def adapter(stack: Stack) -> str:
    """A version that was promoted through the first gateway."""
    pod = stack.gateways[0]
    target = pod.machine.root / "volumes" / "tmp" / "support"
    target.mkdir()
    for path in ADAPTER.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    printed = stack.cluster.execute(pod, "gateway", ["breakeven", "adapters", "add", "/tmp/support"])  # noqa: S108  # a mount
    name = printed.split()[0]
    body = {"version": name.partition("@")[2]}
    promoted = stack.client(pod).post("/breakeven/adapters/support/promote", json=body).json()
    assert promoted.get("engines_without_it") is None, promoted
    # The other gateway follows within two seconds.
    ask = {"model": "support", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    clients = [stack.client(each) for each in stack.gateways]
    stack.cluster.until(lambda: all(http.post("/chat/completions", json=ask).is_success for http in clients), 20)
    return name


def _engines(stack: Stack) -> list[Pod]:
    return stack.cluster.pods["engine"]


def _straight(stack: Stack, engine: Pod) -> httpx.Client:
    """Past gateways and routers."""
    headers = {"authorization": f"Bearer {stack.engine_key}"}
    return httpx.Client(base_url=f"http://{engine.machine.address}:8000/v1", headers=headers, timeout=30)


def _all_answer_with(stack: Stack, name: str) -> None:
    """Each engine and each gateway; the adapter was trained to begin so, which the base model never does."""
    for http in (*(_straight(stack, each) for each in _engines(stack)), *map(stack.client, stack.gateways)):
        body = {"model": name, "messages": [{"role": "user", "content": "Reset my password"}], "max_tokens": 12}
        found = http.post("/chat/completions", json={**body, "temperature": 0})
        assert found.status_code == 200, found.text
        assert found.json()["choices"][0]["message"]["content"].startswith("**Answer:**"), found.text
    for each in _engines(stack):
        listed = _straight(stack, each).get("/models").json()["data"]
        assert {model["id"] for model in listed} == {EMBEDDED_MODEL, name}


@contextmanager
def _asked(stack: Stack) -> Iterator[tuple[Load, Load]]:
    """With the adapter and without it, as streams and whole."""
    with stack.load("support", rate=1, more=SHORT) as one, stack.load("base", rate=1, more=SHORT) as other:
        yield one, other


def _odd(loads: Sequence[Load]) -> list[Outcome]:
    return [each for load in loads for each in load.odd()]


def test_what_one_gateway_ingested_the_other_answers_from(stack: Stack) -> None:
    question = {"role": "user", "content": "How many days of annual leave do I get?"}
    body = {"model": "handbook", "messages": [question], "max_tokens": 12}
    answer = stack.client(stack.gateways[1]).post("/chat/completions", json=body).json()
    assert answer["breakeven"]["retrieval"]["passages"][0]["source"] == "annual-leave.md", answer


def test_both_engines_have_what_was_promoted(stack: Stack, adapter: str) -> None:
    _all_answer_with(stack, adapter)


def test_a_killed_engine_comes_back_by_itself_and_gateways_restart_without_it(stack: Stack, adapter: str) -> None:
    engine, *_ = _engines(stack)
    before = list(stack.gateways)
    with _asked(stack) as loads:
        time.sleep(2)
        stack.cluster.kill(engine)
        stack.cluster.until(lambda: engine.restarts > 0)
        gone = time.monotonic()
        stack.cluster.rollout_restart("gateway", within_s=200)
        stack.cluster.until(lambda: engine.ready, within_s=200)
        time.sleep(2)
    # Whom the engine was answering is told so, in words. Nobody else notices: neither its end, nor the gateways', nor
    # that it is back.
    assert {each.kind for each in _odd(loads)} <= {"error"}, _odd(loads)
    assert {each.status for each in _odd(loads)} <= {200, 502, 503}, _odd(loads)
    assert all(each.began < gone for each in _odd(loads)), (gone, _odd(loads))
    assert all(load.counts()["complete"] > 15 for load in loads)
    assert not set(before) & set(stack.gateways)
    assert all(pod.orderly for pod in before), [pod.events for pod in before]
    _all_answer_with(stack, adapter)


def test_a_rolling_restart_of_the_engines_loses_no_request(stack: Stack, adapter: str) -> None:
    before = list(_engines(stack))
    with (
        stack.load("support", rate=10, most=3, more=LONG) as long,
        stack.load("base", rate=10, most=3, more=LONG) as longer,
        _asked(stack) as loads,
    ):
        time.sleep(1)
        stack.cluster.rollout_restart("engine", within_s=600)
        time.sleep(2)
    assert _odd([long, longer, *loads]) == [], stack.cluster.story()
    assert all(load.counts()["complete"] > 15 for load in loads)
    assert not set(before) & set(_engines(stack))
    # Each ended by itself, and the first one in the middle of answers.
    assert all(pod.orderly for pod in before), [pod.events for pod in before]
    assert re.search(r"draining in-flight requests count=[1-9]", before[0].log().read_text()), stack.cluster.story()
    _all_answer_with(stack, adapter)


def test_an_engine_that_ends_unannounced_gives_nobody_half_an_answer(stack: Stack, adapter: str) -> None:
    engine, *_ = _engines(stack)
    some = {**LONG, "max_tokens": 120}
    with stack.load(adapter, rate=10, most=3, more=some) as long, stack.load("base", rate=4, more=SHORT) as load:
        time.sleep(1)
        # vLLM goes on taking requests then, and answers them with nothing, as if that were all.
        stack.cluster.kill(engine, signal.SIGTERM)
        stack.cluster.until(lambda: engine.restarts > 0)
    assert {each.kind for each in _odd([long, load])} <= {"error"}, _odd([long, load])
    assert long.odd() == [], long.odd()
