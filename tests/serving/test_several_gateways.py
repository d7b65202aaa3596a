"""Two gateways with a home each, over one Chroma server and one PostgreSQL: their documents are the same."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from retrieval.errors import StoreUnreachable
from retrieval.hashing import HashingEmbedder
from retrieval.lock import OwnerLock
from retrieval.questions import parse_questions
from serving.access import open_documents
from serving.library import owned_store
from serving.settings import SettingsError, load_settings
from serving.shelving import open_store
from tests.servers import Cluster, chroma_server, free_port
from tests.serving.gateways import Running, running, settings_for

Pair = tuple[Running, Running]
ROWS: list[dict[str, Any]] = [
    {"question": f"rain gauge holds how much water {n}", "file": "gauges.md"} for n in range(10)
]
ROWS += [{"question": f"xylophone quantum zebra {n}", "file": None} for n in range(10)]
DOCUMENTS = "/v1/breakeven/knowledge/manual/documents"


def places(servers: tuple[str, Cluster]) -> dict[str, Any]:
    return {"database_url": servers[1].url(), "retrieval": {"chroma_url": servers[0]}}


@pytest.fixture
async def pair(servers: tuple[str, Cluster], tmp_path: Path) -> AsyncIterator[Pair]:
    """Both answer; `servers` made sure that they start with nothing."""
    shared = places(servers)
    one, two = (
        settings_for(tmp_path / name, models={"free": {"knowledge": "books"}}, **shared) for name in ("one", "two")
    )
    async with running(one) as first, running(two) as second:
        yield first, second


async def test_what_one_takes_the_other_answers_at_once(pair: Pair) -> None:
    one, two = pair
    async with httpx.AsyncClient() as client:
        text = b"# Pumps\n\nThe pump of the cellar is oiled every spring by the caretaker.\n"
        stored = await client.put(f"{one.url}{DOCUMENTS}/pumps.md", content=text)
        assert stored.json()["status"] == "added"
        ask = {"query": "who oils the pump of the cellar?", "top_k": 1}
        found = await client.post(f"{two.url}/v1/breakeven/knowledge/manual/search", json=ask)
        assert [passage["source"] for passage in found.json()["data"]] == ["pumps.md"]
        again = await client.put(f"{two.url}{DOCUMENTS}/pumps.md", content=text)
        assert again.json()["status"] == "unchanged"
        message = {"role": "user", "content": "How many millimetres of water does the rain gauge hold?"}
        for each in pair:
            answer = await client.post(
                f"{each.url}/v1/chat/completions", json={"model": "books", "messages": [message]}
            )
            assert answer.json()["breakeven"]["retrieval"]["passages"][0]["source"] == "gauges.md"
        assert (await client.delete(f"{two.url}{DOCUMENTS}/pumps.md")).status_code == 200
        assert (await client.get(f"{one.url}{DOCUMENTS}")).json()["data"] == []


async def test_a_calibration_at_one_is_in_force_at_the_other(pair: Pair, tmp_path: Path) -> None:
    def calibrate() -> float:
        with open_documents(settings_for(tmp_path / "one")) as documents:  # asks the gateway that runs there
            *_, last = documents.calibrate("books", parse_questions(ROWS), 0.9)
        return float(last["calibration"]["min_score"])

    measured = await asyncio.to_thread(calibrate)
    async with httpx.AsyncClient() as client:
        found = (await client.get(f"{pair[1].url}/v1/breakeven/knowledge/books/calibration")).json()
        assert (found["min_score"], found["warning"]) == (measured, None)
        body = {"model": "free", "messages": [{"role": "user", "content": "rain gauge"}]}
        answer = (await client.post(f"{pair[1].url}/v1/chat/completions", json=body)).json()
        assert answer["breakeven"]["retrieval"]["min_score_from"] == "calibration"


async def test_no_lock_keeps_a_second_process_out(pair: Pair, servers: tuple[str, Cluster], tmp_path: Path) -> None:
    home = tmp_path / "one"
    assert OwnerLock(home / "store.lock").owner() is not None  # where the command line asks
    settings = settings_for(home, **places(servers))
    with owned_store(settings, "http://elsewhere"):
        store, _ = await asyncio.to_thread(open_store, settings, HashingEmbedder())
        assert store.knowledge_bases("local") == ["books"]
        store.close()
    owner = OwnerLock(home / "store.lock").owner()
    assert owner is not None and owner.url == pair[0].url


async def test_the_gateway_does_not_start_without_its_servers(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreUnreachable, match=rf"the Chroma server at {nowhere} cannot be reached"):
        async with running(settings_for(tmp_path, retrieval={"chroma_url": nowhere})):
            raise AssertionError("it started")
    with pytest.raises(StoreUnreachable, match=r"PostgreSQL at 127\.0\.0\.1:\d+ cannot be reached"):
        async with running(settings_for(tmp_path).model_copy(update={"database_url": f"postgresql://{nowhere[7:]}/x"})):
            raise AssertionError("it started")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("BREAKEVEN_DATABASE_URL", "mysql://me:secret@host/x"), ("BREAKEVEN_RETRIEVAL__CHROMA_URL", "host:secret")],
)
def test_a_url_of_the_wrong_kind_is_refused_without_showing_it(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=r"setting (retrieval\.chroma|database)_url") as said:
        load_settings(environ={variable: value})
    assert "secret" not in str(said.value)


async def test_a_server_that_is_gone_is_seen_and_hangs_nothing(tmp_path: Path) -> None:
    """Not ready, and a question is a 503 that says why; nobody else waits for it."""
    with chroma_server(tmp_path / "data") as (url, process):
        settings = settings_for(tmp_path, retrieval={"chroma_url": url, "chroma_timeout_s": 30})
        async with running(settings) as stack, httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
            async with asyncio.timeout(60):
                while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # a busy machine; no event
                    await asyncio.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["checks"]["store"]) == (503, False)
            asked = asyncio.create_task(
                client.post("/v1/breakeven/knowledge/books/search", json={"query": "rain gauge"})
            )
            await asyncio.sleep(0.1)
            started = time.monotonic()
            assert (await client.get("/livez")).status_code == 200
            assert time.monotonic() - started < 5
            process.kill()
            answer = await asked
            assert answer.status_code == 503
            assert "the Chroma server cannot be reached" in answer.json()["error"]["message"]
