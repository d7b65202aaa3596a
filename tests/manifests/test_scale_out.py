"""The scale-out overlay as processes: what its gateways and engines share, rolling restarts, and kills, under load.

The tests are one story on one stack, in this order.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from serving.accounting.ledger.postgres import PostgresDatabase
from serving.accounting.ledger.statement import statement
from tests.manifests.load import Load, Outcome
from tests.manifests.preparation import PASSWORD
from tests.manifests.stack import BUDGET_USD, Stack
from tests.serving.adapter_folders import write_adapter

pytestmark = pytest.mark.slow
BASE_MODEL = "Qwen/Qwen3-8B"
PUMPS = b"# Pumps\n\nThe pump of the cellar is oiled every spring by the caretaker.\n"
# Every answer that clients got, over the whole story.
ANSWERED: list[Outcome] = []


def _finished(load: Load) -> Load:
    ANSWERED.extend(each for each in load.outcomes if each.kind == "complete")
    return load


def _ask(http: httpx.Client, model: str, text: str = "Hello there") -> httpx.Response:
    return http.post("/chat/completions", json={"model": model, "messages": [{"role": "user", "content": text}]})


def _answered(stack: Stack, model: str) -> list[int]:
    """How often each engine has answered as this model."""
    found = []
    for pod in stack.cluster.pods["engine"]:
        text = httpx.get(f"http://{pod.machine.address}:8000/metrics").text
        match = re.search(rf'answered{{model="{re.escape(model)}"}} (\d+)', text)
        found.append(int(match[1]) if match else 0)
    return found


def _ledger(stack: Stack) -> PostgresDatabase:
    (pod,) = stack.cluster.pods["postgres"]
    return PostgresDatabase(f"postgresql://breakeven:{PASSWORD}@{pod.machine.address}:5432/breakeven")


def test_nothing_is_written_outside_of_the_mounts(stack: Stack) -> None:
    for pod in (pod for pods in stack.cluster.pods.values() for pod in pods):
        assert list((pod.machine.root / "work").iterdir()) == [], pod.name


def test_what_one_gateway_takes_the_other_answers_at_once(stack: Stack) -> None:
    one, two = (stack.client(pod) for pod in stack.gateways)
    stored = one.put("/breakeven/knowledge/handbook/documents/pumps.md", content=PUMPS)
    assert stored.json()["status"] == "added"
    answer = _ask(two, "handbook", "Who oils the pump of the cellar?").json()
    assert answer["breakeven"]["retrieval"]["passages"][0]["source"] == "pumps.md", answer


def test_an_adapter_promoted_through_one_is_served_by_both_engines(stack: Stack) -> None:
    one, two = (stack.client(pod) for pod in stack.gateways)
    pod = stack.gateways[0]
    write_adapter(pod.machine.root / "volumes" / "tmp" / "tone", 1, base=BASE_MODEL)
    printed = stack.cluster.execute(pod, "gateway", ["breakeven", "adapters", "add", "/tmp/tone"])  # noqa: S108  # a mount
    version = re.search(r"tone@(\w+)", printed)
    assert version is not None, printed
    promoted = one.post("/breakeven/adapters/tone/promote", json={"version": version[1]}).json()
    assert (promoted["version"], promoted.get("engines_without_it")) == (version[1], None), promoted
    # The other one follows within two seconds.
    stack.cluster.until(lambda: _ask(two, "tone").status_code == 200, 10)
    with ThreadPoolExecutor(8) as threads:
        for ask in ((one, "tone"), (two, "tone")):
            assert {answer.status_code for answer in threads.map(lambda each: _ask(*each), [ask] * 8)} == {200}
    assert all(_answered(stack, version[0])), "the router sends to both"


def test_a_budget_is_exact_across_gateways(stack: Stack) -> None:
    clients = [stack.client(pod, stack.budget_key) for pod in stack.gateways]
    costs: list[Decimal] = []
    refused: list[Any] = []
    with ThreadPoolExecutor(8) as threads:
        while not any(each["code"] == "insufficient_quota" for each in refused):
            assert len(costs) < 200
            for answer in threads.map(lambda http: _ask(http, "base"), clients * 4):
                if answer.status_code == 200:
                    costs.append(Decimal(answer.json()["breakeven"]["cost"]["allocation_usd"]))
                else:
                    assert answer.status_code == 429, answer.text
                    refused.append(answer.json()["error"])
    allowed = Decimal(BUDGET_USD)
    assert allowed <= sum(costs) <= allowed + max(costs), costs
    assert {_ask(http, "base").json()["error"]["code"] for http in clients} == {"insufficient_quota"}


@pytest.mark.parametrize("name", ["gateway", "engine"])
def test_a_rolling_restart_loses_no_request(stack: Stack, name: str) -> None:
    before = list(stack.cluster.pods[name])
    with stack.load() as load:
        time.sleep(1)
        stack.cluster.rollout_restart(name)
        time.sleep(1)
    assert _finished(load).odd() == [], stack.cluster.story()
    assert len(load.outcomes) > 20
    assert not set(before) & set(stack.cluster.pods[name])
    # Each ended by itself, within what its manifest gives it.
    assert all(pod.orderly for pod in before), [pod.events for pod in before]


@pytest.mark.parametrize(("name", "model"), [("engine", "tone"), ("gateway", "base"), ("chroma", "handbook")])
def test_after_a_kill_errors_are_explicit_and_all_is_well_again_by_itself(stack: Stack, name: str, model: str) -> None:
    pod = stack.cluster.pods[name][0]
    restarts = pod.restarts
    with stack.load(model) as load:
        time.sleep(1)
        stack.cluster.kill(pod)
        killed = time.monotonic()
        stack.cluster.until(lambda: pod.restarts > restarts)
        stack.cluster.until_ready()
        well = time.monotonic()
        time.sleep(2)
    odd = _finished(load).odd()
    # Whoever was connected to a gateway that is killed sees that; an engine's and a store's end is told in words.
    broken = [each for each in odd if each.kind == "broken"]
    assert not broken or (name == "gateway" and all(each.began < killed + 0.5 for each in broken)), odd
    assert {each.status for each in odd} <= {0, 200, 502, 503}, odd
    assert not [each for each in odd if each.began > well + 1.5], (odd, well)
    assert load.counts()["complete"] > 20


def test_after_a_kill_of_the_database_nothing_that_was_acknowledged_is_lost(stack: Stack) -> None:
    (pod,) = stack.cluster.pods["postgres"]
    restarts = pod.restarts
    one, two = (stack.client(pod) for pod in stack.gateways)
    with stack.load() as load:
        assert one.put(
            "/breakeven/knowledge/handbook/documents/late.md", content=b"# Late\n\nThe owl is late.\n"
        ).is_success
        stack.cluster.kill(pod)
        refused = one.put("/breakeven/knowledge/handbook/documents/lost.md", content=b"# Lost\n\nThe owl is lost.\n")
        stack.cluster.until(lambda: pod.restarts > restarts)
        stack.cluster.until_ready()
        time.sleep(2)
    assert refused.is_success or (refused.status_code == 503 and refused.json()["error"]["message"]), refused.text
    assert {each.kind for each in _finished(load).odd()} <= {"error"}, load.odd()

    def found() -> httpx.Response:
        return two.post("/breakeven/knowledge/handbook/search", json={"query": "The owl is late", "top_k": 1})

    stack.cluster.until(lambda: found().is_success, 20)
    assert found().json()["data"][0]["source"] == "late.md"


def test_the_bills_add_up_to_what_clients_were_told(stack: Stack) -> None:
    time.sleep(1.5)  # rows are written twice a second
    ledger = _ledger(stack)
    rows: dict[str, str] = dict(
        ledger.rows("SELECT request_id, allocation_usd FROM requests WHERE outcome = 'complete'")
    )
    told = {each.request_id: Decimal(each.usd) for each in ANSWERED}
    missing = set(told) - set(rows)
    # A killed gateway takes the last second of its rows with it.
    assert len(missing) <= 20, len(missing)
    assert all(Decimal(rows[each]) == usd for each, usd in told.items() if each not in missing)
    whole = statement(ledger, 0, 1e12)
    assert abs(whole.difference_usd) < Decimal("1e-6"), whole
    ledger.close()
