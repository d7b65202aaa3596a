"""The journal: every request is told of once, in the order of their ends, and before anybody reads what was counted."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from serving.accounting.journal import FLUSH_S, Journal
from serving.accounting.record import RequestRecord, Share
from serving.auth import LOCAL_OPERATOR
from tests.serving.books import request_record
from tests.serving.gateways import Running, running, settings_for
from tests.serving.test_hot_protocol import ASK, Client, sized


@dataclass
class Request:
    """One that has ended."""

    id: str

    def record(self) -> RequestRecord:
        return request_record(Share(), id=self.id)


@dataclass
class Seen:
    """A sink that fails at one request."""

    ids: list[str] = field(default_factory=list)
    bad: str | None = None

    def record(self, record: RequestRecord) -> None:
        if record.id == self.bad:
            raise ValueError(record.id)
        self.ids.append(record.id)


async def test_all_are_told_soon_and_once() -> None:
    journal, seen = Journal(), Seen()
    journal.sinks = (seen,)
    for number in range(3):
        journal.enter(Request(f"{number}"))
    assert seen.ids == []
    await asyncio.sleep(3 * FLUSH_S)
    assert seen.ids == ["0", "1", "2"]
    journal.enter(Request("3"))
    journal.flush()
    journal.enter(Request("4"))
    await asyncio.sleep(3 * FLUSH_S)
    assert seen.ids == ["0", "1", "2", "3", "4"]


async def test_a_sink_that_fails_keeps_nothing_from_the_others() -> None:
    journal, bad, good = Journal(), Seen(bad="1"), Seen()
    journal.sinks = (bad, good)
    for number in range(3):
        journal.enter(Request(f"{number}"))
    journal.flush()
    assert (bad.ids, good.ids) == (["0", "2"], ["0", "1", "2"])


class Broken(Request):
    """Of an engine that counts its tokens in words."""

    def record(self) -> RequestRecord:
        raise TypeError(self.id)


async def test_a_request_without_a_record_takes_no_other_with_it() -> None:
    journal, seen = Journal(), Seen()
    journal.sinks = (seen,)
    for request in (Request("0"), Broken("1"), Request("2")):
        journal.enter(request)
    journal.flush()  # and its reader goes on
    assert seen.ids == ["0", "2"]


def counted(stack: Running) -> float | None:
    labels = {"model": "plain", "endpoint": "chat", "outcome": "complete"}
    return stack.gateway.metrics.registry.get_sample_value("breakeven_requests_total", labels)


async def test_whoever_reads_sees_what_has_just_ended(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as stack, Client(stack) as client:
        for number in (1, 2):
            client.writer.write(sized(ASK))
            extension = orjson.loads((await client.answer())[2])["breakeven"]
            assert counted(stack) == number
        client.writer.write(sized(ASK))
        extension = orjson.loads((await client.answer())[2])["breakeven"]
        vote = orjson.dumps({"request_id": extension["request_id"], "vote": "up"})
        client.writer.write(sized(vote, start=b"POST /v1/feedback HTTP/1.1\r\nhost: localhost\r\n"))
        assert (await client.answer())[0] == 200


def flushed_often() -> bool:
    return any("coro=<_tick()" in repr(task) for task in asyncio.all_tasks())


async def test_what_ends_while_the_gateway_is_taken_apart_is_in_the_ledger(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as stack:
        trace = stack.gateway.completions.trace(LOCAL_OPERATOR, "chat")

        async def last() -> None:
            while flushed_often():  # noqa: ASYNC110  # there is no event for its end
                await asyncio.sleep(0)
            trace.end("complete", 200)

        assert flushed_often()
        ending = asyncio.create_task(last())
    await ending
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        assert ledger.execute("SELECT outcome FROM requests WHERE request_id = ?", (trace.id,)).fetchall()
