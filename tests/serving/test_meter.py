"""The meter's promise: whatever happens, the parts add up to the bill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.accounting.meter import Meter

STEPS = st.lists(
    st.tuples(st.floats(0, 1000), st.sampled_from(["begin", "complete", "fail"]), st.integers(0, 50)), max_size=60
)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(steps=STEPS, accelerators=st.integers(1, 8))
def test_shares_and_idle_add_up_to_the_bill(steps: list[tuple[float, str, int]], accelerators: int) -> None:
    clock = Clock()
    meter = Meter(accelerators, half_life_s=60, clock=clock)
    tickets: list[float] = []
    busy = idle = 0.0
    for wait, action, which in steps:
        clock.now += wait
        if action == "begin":
            tickets.append(meter.begin())
        elif tickets:
            share = meter.end(tickets.pop(which % len(tickets)), completed=action == "complete")
            busy += share.busy_s
            idle += share.idle_s
            assert share.busy_s >= -1e-9
            assert share.idle_s >= 0
    while tickets:
        share = meter.end(tickets.pop(), completed=True)
        busy, idle = busy + share.busy_s, idle + share.idle_s
    bill = meter.bill()
    elapsed = (clock.now - 100.0) * accelerators
    assert bill.billed_s == pytest.approx(elapsed)
    assert busy == pytest.approx(bill.busy_s, abs=1e-6)
    assert idle + bill.unallocated_idle_s == pytest.approx(bill.idle_s, abs=1e-6)


def test_concurrent_requests_share_the_time_they_overlap() -> None:
    clock = Clock()
    meter = Meter(clock=clock)
    first = meter.begin()
    clock.now += 2
    second = meter.begin()
    clock.now += 4
    assert meter.end(first, completed=True).busy_s == pytest.approx(2 + 4 / 2)
    clock.now += 3
    assert meter.end(second, completed=True).busy_s == pytest.approx(4 / 2 + 3)
    assert meter.bill().busy_s == pytest.approx(9)


def test_a_failed_request_takes_no_idle_time() -> None:
    clock = Clock()
    meter = Meter(clock=clock)
    clock.now += 50
    ticket = meter.begin()
    clock.now += 1
    assert meter.end(ticket, completed=False).idle_s == 0
    assert meter.bill().unallocated_idle_s == pytest.approx(50)


def test_idle_time_is_spread_by_recent_utilisation() -> None:
    clock = Clock()
    meter = Meter(half_life_s=1e9, clock=clock)
    shares = []
    for _ in range(200):
        clock.now += 3
        ticket = meter.begin()
        clock.now += 1
        shares.append(meter.end(ticket, completed=True))
    # One busy second in four: each busy second carries three idle ones.
    assert shares[-1].idle_s == pytest.approx(3, rel=0.02)
