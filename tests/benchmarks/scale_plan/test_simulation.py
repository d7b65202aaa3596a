"""The simulated fleet: no request is lost from sight, closed forms hold where there are any, and rules are kept."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.economics.simulation import poisson_arrivals, simulate
from benchmarks.scale_plan.autoscaling import SYNC_S, Autoscaler, Rules, rules
from benchmarks.scale_plan.cluster import UNHEALTHY_S, Cluster, Plan, Played
from benchmarks.scale_plan.replica import Demand, PrefixCache, Replica, Request
from benchmarks.scale_plan.routing import ROUTERS
from benchmarks.scale_plan.traffic import Shape, requests

DEMAND = Demand(base_s=0.002, prefill_s_per_token=0.0005, step_s=0.02, decode_s_per_token=0.0005, slots=8)
SHAPE = Shape(400, 30)
FULL = DEMAND.full_queries_per_s(400, 30)
PLAN = Plan(DEMAND, 3, 60.0, 600.0, FULL, 30.0)
KEDA = Rules(least=2, most=8, waiting=4, cache=0.8, up_every_s=60, down_every_s=300, settled_s=900)


def play(plan: Plan, rate: float, router: str = "least requests", seed: int = 0, shape: Shape = SHAPE) -> Played:
    return Cluster(plan, ROUTERS[router](seed)).play(requests(shape, [rate], plan.ends_s, seed))


def test_one_place_is_the_queue_whose_waits_are_known() -> None:
    """With one answer at a time and one token, a replica is the single server of the economic model."""
    demand = replace(DEMAND, slots=1)
    arrivals = poisson_arrivals(3.5, 3000, seed=3)
    sent = [Request(at, 400, 1, 0) for at in arrivals]
    plan = Plan(demand, 1, 0.0, 1e9, demand.full_queries_per_s(400, 1), 1e9)
    played = Cluster(plan, ROUTERS["random"](0)).play(sent)
    service_s = demand.base_s + 400 * demand.prefill_s_per_token
    known = simulate(arrivals, [service_s] * len(arrivals), 1)
    waits = [first - service_s for _, first, _ in played.answers]
    assert len(waits) == 3000
    assert sum(waits) / 3000 == pytest.approx(known.mean_wait_s, rel=1e-6)


def test_a_full_batch_completes_what_the_closed_form_says() -> None:
    for slots in (1, 4, 8):
        demand = replace(DEMAND, slots=slots)
        plan = Plan(demand, 1, 0.0, 1e9, 1.0, 1e9)
        sent = [Request(0.0, 400, 30, 0) for _ in range(400)]
        played = Cluster(plan, ROUTERS["random"](0)).play(sent)
        last = max(arrived + whole for arrived, _, whole in played.answers)
        assert 400 / last == pytest.approx(demand.full_queries_per_s(400, 30), rel=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.floats(0.2, 25), st.sampled_from(list(ROUTERS)), st.booleans(), st.integers(0, 99))
def test_every_request_is_answered_refused_or_broken_off(
    replicas: int, rate: float, router: str, lost: bool, seed: int
) -> None:
    plan = replace(PLAN, replicas=replicas, ends_s=200.0, lost_s=70.0 if lost else None)
    played = Cluster(replace(plan, ends_s=1e6), ROUTERS[router](seed)).play(requests(SHAPE, [rate], 200.0, seed))
    assert played.sent == len(played.answers) + len(played.refused) + len(played.broken)
    assert all(0 < first <= whole for _, first, whole in played.answers)
    if not lost:
        assert not played.broken


@settings(max_examples=6, deadline=None)
@given(st.floats(1, 20), st.integers(0, 99))
def test_billed_time_is_that_of_the_fleet(rate: float, seed: int) -> None:
    """What a scaled fleet is billed for is the area under its size, cold starts and drains included."""
    plan = replace(PLAN, replicas=2, ends_s=2000.0, scaling=KEDA, lost_s=700.0)
    played = play(plan, rate, seed=seed)
    changes = [change for change in played.fleet if change[0] <= plan.ends_s]
    area = sum((later - at) * count for (at, count), (later, _) in pairwise([*changes, (plan.ends_s, 0)]))
    assert played.billed_s == pytest.approx(area)
    assert all(1 <= count <= KEDA.most + 1 for _, count in played.fleet)


def test_what_is_asked_beyond_all_capacity_is_refused_at_the_door() -> None:
    played = play(PLAN, 10 * FULL, shape=replace(SHAPE, spread=False))
    assert 0.5 < len(played.refused) / played.sent < 0.75
    assert max(whole for _, _, whole in played.answers) < PLAN.objective_s
    assert not play(PLAN, 1.5 * FULL).refused


def test_a_lost_replica_breaks_off_what_it_had_and_gets_no_more() -> None:
    plan = replace(PLAN, lost_s=300.0)
    lost, whole = play(plan, 2 * FULL), play(PLAN, 2 * FULL)
    assert 0 < len(lost.broken) <= DEMAND.slots * 3
    assert all(at <= 300.0 for at in lost.broken)
    # Those that were sent to it before its check failed came late, and were answered by another.
    waited = [first for at, first, _ in lost.answers if 300 < at < 300 + UNHEALTHY_S]
    assert max(waited) > 2.0
    assert lost.started == 1
    assert not whole.started
    assert lost.billed_s == pytest.approx(whole.billed_s)


def test_the_autoscaler_follows_its_manifest() -> None:
    found = rules()
    assert (found.least, found.most) == (2, 8)
    assert (found.waiting, found.cache) == (4, 0.8)
    assert (found.up_every_s, found.down_every_s, found.settled_s) == (60, 300, 900)


def test_a_replica_a_minute_up_and_one_in_five_down_after_a_quarter_of_an_hour() -> None:
    scaler, count, counts = Autoscaler(KEDA), 2, []
    for tick in range(240):
        now = tick * SYNC_S
        count = scaler.replicas(now, count, 40 if now < 600 else 0, 0.5 * count if now < 600 else 0.0, 0)
        counts.append((now, count))
    ups = [at for (_, before), (at, after) in pairwise(counts) if after > before]
    downs = [at for (_, before), (at, after) in pairwise(counts) if after < before]
    assert max(count for _, count in counts) == KEDA.most
    assert all(later - at >= 60 for at, later in pairwise(ups))
    assert min(downs) >= 600 + 900
    assert all(later - at >= 300 for at, later in pairwise(downs))
    assert counts[-1][1] == KEDA.least


def test_a_tenth_off_the_target_changes_nothing() -> None:
    assert Autoscaler(KEDA).replicas(0, 4, 17, 0.0, 99) == 4
    assert Autoscaler(KEDA).replicas(0, 4, 18, 0.0, 99) == 5
    assert Autoscaler(replace(KEDA, running=20.0)).replicas(0, 4, 0, 0.0, 99) == 5


def test_affinity_keeps_a_topic_together_and_no_replica_drowns() -> None:
    fleet = [Replica(number, DEMAND, PrefixCache(200, 50), 0.0) for number in range(10)]
    route = ROUTERS["prefix or adapter affinity"](0)
    chosen = {route(fleet, Request(0.0, 400, 30, 7)).number for _ in range(20)}
    assert len(chosen) == 1
    for number in range(300):  # all of one topic: the bound must spread them
        route(fleet, Request(0.0, 400, 30, 7)).take(Request(0.0, 400, 30, 7), 0.001 * number)
    assert max(replica.outstanding for replica in fleet) <= 1.25 * 300 / 10 + 2
    # When one replica goes, only what was its own moves.
    idle = [Replica(number, DEMAND, PrefixCache(), 0.0) for number in range(10)]
    before = {topic: route(idle, Request(0.0, 1, 1, topic)).number for topic in range(300)}
    after = {topic: route(idle[:-1], Request(0.0, 1, 1, topic)).number for topic in range(300)}
    assert all(after[topic] == number for topic, number in before.items() if number != 9)
    assert len(Counter(after.values())) == 9


def test_a_cache_saves_the_shared_beginning_and_forgets_the_oldest() -> None:
    replica = Replica(0, DEMAND, PrefixCache(shared_tokens=200, topics=2), 0.0)
    now, times = 0.0, []
    for topic in (1, 1, 2, 3, 1):
        replica.take(Request(now, 400, 1, topic), now)
        end = replica.next_s()
        assert end is not None
        times.append(end - now)
        replica.advance(end)
        now = end
    fresh, known = 0.002 + 0.2, 0.002 + 0.1
    assert times == pytest.approx([fresh, known, fresh, fresh, fresh])
    assert (replica.hits, replica.asked) == (1, 5)


def test_better_routers_are_better_and_the_same_seed_repeats_itself() -> None:
    plan = replace(PLAN, replicas=12, ends_s=300.0)

    def p95(router: str) -> float:
        firsts = sorted(first for _, first, _ in play(plan, 0.8 * 12 * FULL, router).answers)
        return firsts[int(0.95 * len(firsts))]

    assert p95("least requests") < p95("least of two (Envoy)") < p95("random")
    assert p95("random") == p95("random")
