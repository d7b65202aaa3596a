"""What several gateways share, and rolling restarts under load: nothing is lost, nobody waits for hands."""

import time

import httpx
import pytest

from tests.manifests.conftest import Stack
from tests.manifests.pod import Pod

pytestmark = pytest.mark.slow


def _client(pod: Pod, key: str) -> httpx.Client:
    """One gateway alone, past its Service."""
    return httpx.Client(
        base_url=f"http://{pod.machine.address}:8000/v1", headers={"authorization": f"Bearer {key}"}, timeout=30
    )


def test_what_one_gateway_takes_the_other_answers_at_once(stack: Stack) -> None:
    one, two = (_client(pod, stack.key) for pod in stack.gateways)
    text = b"# Pumps\n\nThe pump of the cellar is oiled every spring by the caretaker.\n"
    stored = one.put("/breakeven/knowledge/handbook/documents/pumps.md", content=text)
    assert stored.json()["status"] == "added"
    ask = {"model": "handbook", "messages": [{"role": "user", "content": "Who oils the pump of the cellar?"}]}
    answer = two.post("/chat/completions", json=ask).json()
    assert answer["breakeven"]["retrieval"]["passages"][0]["source"] == "pumps.md", answer


def test_nothing_is_written_outside_of_the_mounts(stack: Stack) -> None:
    for pod in (pod for pods in stack.cluster.pods.values() for pod in pods):
        assert list((pod.machine.root / "work").iterdir()) == [], pod.name


@pytest.mark.parametrize("name", ["gateway", "engine"])
def test_a_rolling_restart_loses_no_request(stack: Stack, name: str) -> None:
    before = list(stack.cluster.pods[name])
    with stack.load() as load:
        time.sleep(1)
        stack.cluster.rollout_restart(name)
        time.sleep(1)
    assert load.odd() == [], stack.cluster.story()
    assert len(load.outcomes) > 20
    assert not set(before) & set(stack.cluster.pods[name])
    # Each ended by itself, within what its manifest gives it.
    assert all(pod.orderly for pod in before), [pod.events for pod in before]
