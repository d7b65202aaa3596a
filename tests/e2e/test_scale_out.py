"""The scale-out overlay with two real vLLMs: documents, an adapter on both engines, and the end of one of them.

Everything else that the overlay must stand is in tests/manifests, with engines that have no model.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serving.engine.arguments import cpu_variables
from serving.engine.checkpoint import prepare_weights
from serving.engine.device import detect
from serving.engine.weights import EMBEDDED_MODEL
from serving.sections import Engine
from tests.conftest import HOME, ROOT
from tests.manifests.machine import Programs
from tests.manifests.stack import Stack, running

pytestmark = pytest.mark.e2e
ADAPTER = ROOT / "examples" / "support" / "adapter"
CONFIGURATION = {
    "knowledge": {"handbook": {"paths": ["/opt/breakeven/examples/handbook/people/annual-leave.md"]}},
    "models": {"support": {"adapter": "support", "defaults": {"max_tokens": 12}}},
}
# A minute of loading must not look like a dead engine: its startup probe gives it half an hour.
PACE = 5


def _on_a_cpu(arguments: list[str], variables: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """What a CPU build needs beside the manifest's arguments."""
    own = cpu_variables(Engine.model_validate({}), detect(), {})
    # Two engines have the same cores: threads of one that spin while they wait keep the other from what they wait for.
    own |= {"OMP_WAIT_POLICY": "PASSIVE"}
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


def _loaded(address: str, key: str) -> set[str]:
    listed = httpx.get(f"http://{address}:8000/v1/models", headers={"authorization": f"Bearer {key}"}).json()
    return {model["id"] for model in listed["data"]} - {EMBEDDED_MODEL}


def test_the_essential_walk_with_real_engines(stack: Stack) -> None:
    one, two = (stack.client(pod) for pod in stack.gateways)
    question = {"role": "user", "content": "How many days of annual leave do I get?"}
    answer = two.post("/chat/completions", json={"model": "handbook", "messages": [question], "max_tokens": 12}).json()
    assert answer["breakeven"]["retrieval"]["passages"][0]["source"] == "annual-leave.md", answer

    pod = stack.gateways[0]
    target = pod.machine.root / "volumes" / "tmp" / "support"
    target.mkdir()
    for path in ADAPTER.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    printed = stack.cluster.execute(pod, "gateway", ["breakeven", "adapters", "add", "/tmp/support"])  # noqa: S108  # a mount
    name = printed.split()[0]
    promoted = one.post("/breakeven/adapters/support/promote", json={"version": name.partition("@")[2]}).json()
    assert promoted.get("engines_without_it") is None, promoted
    engines = stack.cluster.pods["engine"]
    assert [_loaded(each.machine.address, stack.engine_key) for each in engines] == [{name}, {name}]

    def ask(http: httpx.Client) -> str:
        body = {"model": name, "messages": [{"role": "user", "content": "Reset my password"}], "max_tokens": 12}
        found = http.post("/chat/completions", json={**body, "temperature": 0})
        assert found.status_code == 200, found.text
        return str(found.json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(4) as threads:
        said = set(threads.map(ask, [one, two] * 2))
    # Trained to begin so, which the base model never does: every engine answered with the adapter.
    assert all(each.startswith("**Answer:**") for each in said), said

    with stack.load("support", rate=1) as load:
        time.sleep(2)
        stack.cluster.kill(engines[0])
        stack.cluster.until(lambda: engines[0].restarts > 0 and engines[0].ready, within_s=200)
        time.sleep(3)
    assert not [each for each in load.outcomes if each.kind == "broken"], load.odd()
    assert {each.status for each in load.odd()} <= {200, 502, 503}, load.odd()
    assert load.counts()["complete"] > load.counts()["error"]
    assert _loaded(engines[0].machine.address, stack.engine_key) == {name}
    # Both answer again, each as itself.
    with ThreadPoolExecutor(4) as threads:
        assert all(each.startswith("**Answer:**") for each in threads.map(ask, [one, two] * 2))
