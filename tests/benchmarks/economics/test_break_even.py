"""The break-even set: consistent with the two curves at every volume, whatever the staircase."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.economics.break_even import break_even, missing
from benchmarks.economics.hosted import HostedBill
from benchmarks.economics.staircase import Staircase, Step

D = Decimal


def decimals(low: str, high: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(D(low), D(high), places=places)


steps = st.builds(Step, decimals("1000", "2000000", 0), decimals("0.01", "2000", 2))
staircases = st.builds(
    Staircase,
    st.lists(steps, min_size=1, max_size=4).map(tuple),
    st.integers(0, 3),
    st.integers(0, 2),
    decimals("0", "5000", 2),
    decimals("0", "0.002", 6),
)
hosted_bills = st.builds(HostedBill, decimals("0", "0.01", 6), decimals("0", "6000", 2))
volumes = decimals("1", "50000000", 0)


@settings(deadline=None)
@given(staircases, volumes, volumes)
def test_costs_are_non_negative_and_rise_with_volume(own: Staircase, one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    assert 0 <= own.usd(low) <= own.usd(high)
    assert all(few <= many for few, many in zip(own.replicas(low), own.replicas(high), strict=True))


@settings(deadline=None)
@given(staircases, volumes)
def test_the_bill_lies_between_its_floor_and_its_ceiling(own: Staircase, volume: Decimal) -> None:
    slack = own.usd(volume) - own.slope_usd * volume
    assert slack >= own.floor_usd - D("1e-9")
    if volume >= own.full_at:
        assert slack <= own.ceiling_usd + D("1e-9")


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2))
def test_a_step_is_taken_exactly_when_a_replica_is_full(full: int, fewest: int, spares: int) -> None:
    own = Staircase((Step(D(1000) / 3, D(7)),), fewest, spares)
    edge = full * own.steps[0].queries_per_month
    assert own.replicas(edge) == (max(full, fewest) + spares,)
    assert own.replicas(edge + 1) == (max(full + 1, fewest) + spares,)
    assert own.usd(edge + 1) - own.usd(edge) == (7 if full >= fewest else 0)


@settings(deadline=None)
@given(staircases, hosted_bills, st.lists(volumes, min_size=1, max_size=30))
def test_the_set_agrees_with_the_curves(own: Staircase, hosted: HostedBill, tried: list[Decimal]) -> None:
    found = break_even(own, hosted)
    if not found.exact:
        return
    edges = [edge for part in found.intervals for edge in (part.low, part.high) if edge is not None]
    nearby = [edge * factor for edge in edges for factor in (D("0.999"), D("1.001"))]
    for volume in [*tried, *nearby]:
        saved = hosted.usd(volume) - own.usd(volume)
        if abs(saved) > D("0.0001") and volume > 0 and all(abs(volume - edge) > D("0.01") for edge in edges):
            assert found.pays(volume) == (saved > 0), (volume, saved, found)


@settings(deadline=None)
@given(staircases, hosted_bills)
def test_the_parts_of_the_set_are_in_order(own: Staircase, hosted: HostedBill) -> None:
    found = break_even(own, hosted)
    ends = [end for part in found.intervals for end in (part.low, part.high) if end is not None]
    assert ends == sorted(ends)
    assert all(part.high is not None for part in found.intervals[:-1])
    if found.safe is not None and found.first is not None:
        assert found.first <= found.safe
        assert found.pays(found.safe * 1000 + 1)


@settings(deadline=None)
@given(staircases, hosted_bills)
def test_no_volume_is_safe_exactly_when_the_last_query_costs_more_than_it_saves(
    own: Staircase, hosted: HostedBill
) -> None:
    found, margin = break_even(own, hosted), hosted.usd_per_query - own.slope_usd
    if margin > 0:
        assert found.safe is not None
    if margin < 0:
        assert found.safe is None
    if margin <= 0 and hosted.usd_per_month <= own.floor_usd:
        assert found.never


@settings(deadline=None)
@given(staircases, hosted_bills)
def test_what_is_missing_would_do(own: Staircase, hosted: HostedBill) -> None:
    lacking = missing(own, hosted)
    dearer = HostedBill(lacking.api_usd_per_query * D("1.01") + D("1e-9"), hosted.usd_per_month)
    assert break_even(own, dearer).safe is not None
    if lacking.rate_factor is not None:
        faster = lacking.rate_factor * D("1.01") + D("1e-9")
        quick = tuple(Step(step.queries_per_month * faster, step.usd_per_month) for step in own.steps)
        assert break_even(Staircase(quick, 1, 0, D(0), own.usd_per_query), hosted).safe is not None


def test_islands_of_a_worked_staircase() -> None:
    """Replicas of 100 queries at $10, hosted queries at $0.11: the second replica must earn its $10 first."""
    own, hosted = Staircase((Step(D(100), D(10)),), fixed_usd_per_month=D("0.5")), HostedBill(D("0.11"))
    found = break_even(own, hosted)
    # n replicas cost 10n + 0.5, which 0.11 V reaches at V = (10n + 0.5) / 0.11; the piece ends at V = 100n.
    expected = [((10 * n + D("0.5")) / D("0.11"), D(100) * n) for n in range(1, 11)]
    assert [(part.low, part.high) for part in found.islands] == expected
    assert found.first == D("10.5") / D("0.11")
    assert found.safe == D("110.5") / D("0.11")


def test_a_tie_at_full_load_is_no_saving() -> None:
    own = Staircase((Step(D(1000), D(10)),))
    assert break_even(own, HostedBill(D("0.01"))).never
    assert break_even(own, HostedBill(D("0.01"), D(10))).safe == 0


def test_a_dear_subscription_can_lose_to_small_volumes_only() -> None:
    own, hosted = Staircase((Step(D(1000), D(10)),)), HostedBill(D("0.005"), D(12))
    found = break_even(own, hosted)
    assert (found.first, found.safe) == (0, None)
    assert [(part.low, part.high) for part in found.islands] == [(0, 1000), (1600, 2000)]


def test_a_margin_too_thin_to_list_is_safe_and_says_so() -> None:
    own, hosted = Staircase((Step(D(1000), D(10)),)), HostedBill(D("0.0100001"))
    found = break_even(own, hosted)
    assert not found.exact
    assert found.safe is not None
    assert own.usd(found.safe) <= hosted.usd(found.safe)
