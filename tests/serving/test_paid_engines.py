"""Engines and gateways that come and go: each gateway bills its part, together they bill what there is."""

import asyncio
import logging
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from breakeven.ledger import app
from serving.accounting.ledger.database import Unwritten
from serving.accounting.ledger.opening import open_database
from serving.accounting.ledger.scaling import Change, changes, note
from serving.accounting.ledger.statement import statement
from serving.accounting.meter import Meter
from serving.accounting.paid_engines import PaidEngines, Size, address_count, counted_engines
from tests.serving.books import Clock, Process
from tests.serving.gateways import settings_for
from tests.serving.ledgers import Open


class Dns:
    """Counts that the test sets; a host that it does not know is not resolved."""

    def __init__(self, **hosts: int) -> None:
        self.hosts = hosts

    async def __call__(self, host: str) -> int:
        if host not in self.hosts:
            raise OSError(f"{host} is not known")
        return self.hosts[host]


def counter(meter: Meter, dns: Dns, noted: list[tuple[Size, float]], gateways: str | None = "gateways") -> PaidEngines:
    return PaidEngines(meter, "engines", gateways, lambda size, paid: noted.append((size, paid)), dns)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5), st.floats(1, 5000)), min_size=1, max_size=8))
def test_gateways_together_bill_every_engine_second(story: list[tuple[int, int, float]]) -> None:
    clock, dns = Clock(0.0), Dns(engines=1, gateways=1)
    meters = [Meter(2, clock=clock) for _ in range(5)]
    counters = [counter(meter, dns, []) for meter in meters]

    async def play() -> float:
        billed = 0.0
        for engines, gateways, seconds in story:
            dns.hosts = {"engines": engines, "gateways": gateways}
            for each in counters:
                await each.look()
            before = [meter.bill().billed_s for meter in meters]
            clock.now += seconds
            # Those that are there; the others' clocks stand for nobody.
            billed += sum(meter.bill().billed_s - then for meter, then in zip(meters, before, strict=True)) * (
                gateways / len(meters)
            )
        return billed

    assert asyncio.run(play()) == pytest.approx(sum(2 * engines * seconds for engines, _, seconds in story))


async def test_a_change_is_billed_from_then_on_and_noted_once() -> None:
    clock, noted, dns = Clock(0.0), list[tuple[Size, float]](), Dns(engines=2, gateways=2)
    meter = Meter(1, clock=clock)
    watcher = counter(meter, dns, noted)
    for engines in (2, 2, 3, 3, 1):
        dns.hosts["engines"] = engines
        await watcher.look()
        clock.now += 10
    assert meter.bill().billed_s == pytest.approx(10 + 10 + 15 + 15 + 5)
    assert [size.engines for size, _ in noted] == [2, 3, 1]
    assert [paid for _, paid in noted] == [1.0, 1.5, 0.5]
    assert meter.accelerators * meter.sharers == 1  # of all gateways together


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 60), st.sampled_from(["ask", "wait", "leave"]), st.integers(1, 9)), max_size=25)
)
def test_the_ledger_adds_up_while_the_fleet_is_scaled(story: list[tuple[float, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        process, owed = Process(open_database(Path(folder), None)), 0.0
        for seconds, what, engines in story:
            process.meter.resize(engines / 2)
            if what == "ask":
                process.ask(seconds)
            elif what == "wait":
                process.wait(seconds)
            else:
                job = process.job()
                job.enter()
                process.wait(seconds)
                process.meter.resize(engines)
                process.wait(seconds)
                owed += seconds * engines
                job.end("cancelled")
            owed += seconds * engines / 2
        process.sink.close()
        database = open_database(Path(folder), None)
        found = statement(database, 0, 3e9)
        database.close()
    assert found.billed_s == pytest.approx(owed, abs=1e-6)
    assert abs(found.difference_usd) < 1e-7


async def test_a_running_request_pays_for_the_engines_that_there_were() -> None:
    clock, dns = Clock(0.0), Dns(engines=1)
    meter = Meter(1, clock=clock)
    watcher = counter(meter, dns, [], gateways=None)
    await watcher.look()
    ticket = meter.begin()
    clock.now += 10
    dns.hosts["engines"] = 3
    await watcher.look()
    clock.now += 10
    assert meter.end(ticket, completed=True).busy_s == pytest.approx(40)
    bill = meter.bill()
    assert bill.billed_s == pytest.approx(bill.busy_s + bill.host_s + bill.idle_s) == pytest.approx(40)


async def test_without_an_answer_nothing_changes_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, noted, dns = Clock(0.0), list[tuple[Size, float]](), Dns(gateways=2)
    meter = Meter(1, clock=clock)
    watcher = counter(meter, dns, noted)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await watcher.look()
    assert (meter.accelerators, noted) == (1, [])
    assert len(caplog.records) == 1
    assert "engines is not known" in caplog.text
    dns.hosts["engines"] = 4
    await watcher.look()
    assert meter.accelerators == 2


async def test_a_ledger_that_is_away_does_not_stop_the_bill(caplog: pytest.LogCaptureFixture) -> None:
    def away(_: Size, __: float) -> None:
        raise Unwritten("it is away")

    meter = Meter(1)
    await PaidEngines(meter, "engines", None, away, Dns(engines=5)).look()
    assert meter.accelerators == 5
    assert "it is away" in caplog.text


async def test_addresses_are_counted_and_not_answers() -> None:
    assert await address_count("127.0.0.1") == 1
    with pytest.raises(OSError, match=r"."):
        await address_count("nobody.invalid")


def test_changes_are_kept_in_order(open_ledger: Open) -> None:
    ledger = open_ledger()
    made = [Change(1_790_000_000.25 + number, "g", number, 2, number / 2) for number in (1, 2, 3)]
    for change in reversed(made):
        note(ledger, change)
    found = changes(ledger, 0, 2e9)
    assert found == made
    assert all(a.at < b.at for a, b in pairwise(found))
    assert changes(ledger, made[0].at, made[1].at) == [made[1]]


async def test_a_gateway_notes_what_it_sees_and_the_command_shows_it(tmp_path: Path) -> None:
    given_to = settings_for(tmp_path, cost={"usd_per_hour": "1", "engines_host": "127.0.0.1"})
    meter = Meter(4)
    async with counted_engines(given_to, meter):
        await asyncio.to_thread(wait_until_noted, tmp_path)
    (change,) = seen(tmp_path)
    assert (change.engines, change.gateways, change.accelerators, meter.accelerators) == (1, 1, 4, 4)
    file = tmp_path / "breakeven.yaml"
    file.write_text(f"home: {tmp_path}\n")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["scaling", "--config", str(file)])
    assert result.exit_code == 0, result.output
    assert change.gateway[:8] in result.output


async def test_the_engines_are_counted_before_anything_is_billed(tmp_path: Path) -> None:
    given_to = settings_for(tmp_path, cost={"usd_per_hour": "1", "engines_host": "engines", "gateways_host": "gates"})
    for dns, paid in ((Dns(engines=6, gates=2), 6.0), (Dns(), 2.0)):
        meter = Meter(2)
        async with counted_engines(given_to, meter, dns):
            assert meter.accelerators == paid


def wait_until_noted(home: Path) -> None:
    deadline = time.monotonic() + 20
    while not ((home / "ledger.db").is_file() and seen(home)):
        assert time.monotonic() < deadline, "nothing was noted"
        time.sleep(0.02)


def seen(home: Path) -> list[Change]:
    database = open_database(home, None)
    try:
        return changes(database, 0, 3e9)
    finally:
        database.close()
