"""Several engines behind one URL: every one has every adapter, whatever happens to one of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession, web

from serving.engine.fleet import Fleet, addresses
from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused
from serving.engine.server import Server
from serving.engine.vllm import VllmClient
from serving.errors import AdapterUnavailable, EngineUnavailable
from serving.sections import Engine as EngineSettings
from tests.servers import free_port
from tests.serving.adapter_folders import lora
from tests.simulated_vllm import SimulatedVllm, served

SETTINGS = {"simulated_ttft_s": 0, "simulated_itl_s": 0}


@dataclass
class Router:
    """Sends each request to the next of the engines that it knows; those it does not know are not there for it."""

    known: list[str] = field(default_factory=list)
    turn: int = 0

    async def __call__(self, request: web.Request) -> web.Response:
        if not self.known:
            return web.Response(status=503, text="no healthy upstream")
        self.turn += 1
        url = self.known[self.turn % len(self.known)] + request.path
        async with ClientSession() as http, http.request(request.method, url, data=await request.read()) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)


@dataclass
class Several:
    """Three addresses, behind which engines come and go, and the client of the router before them."""

    folder: Path
    ports: list[int]
    peers: list[SimulatedVllm]
    stacks: list[AsyncExitStack]
    router: Router
    loras: Loras
    client: VllmClient

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.ports[number]}"

    async def up(self, number: int, *, routed: bool = True) -> None:
        await self.stacks[number].enter_async_context(served(self.peers[number], self.ports[number]))
        if routed:
            self.router.known.append(self.url(number))

    async def down(self, number: int) -> None:
        """At once, and what it had is gone."""
        self.router.known.remove(self.url(number))
        await self.stacks[number].aclose()
        self.peers[number].restart()

    async def load(self, name: str) -> None:
        await self.client.load_adapter(lora(self.folder, name))

    async def ask(self, model: str) -> int:
        body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
        async with self.client.post("/v1/chat/completions", body) as answer:
            await answer.read()
            return answer.status

    async def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, [peer.loaded for peer in self.peers]
            await asyncio.sleep(0.02)


@pytest.fixture
async def several(tmp_path: Path) -> AsyncIterator[Several]:
    """Two of the three engines are there."""
    ports, peers, router = (
        [free_port() for _ in range(3)],
        [SimulatedVllm(settings=SETTINGS) for _ in range(3)],
        Router(),
    )
    async with AsyncExitStack() as everything:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", router)
        runner = web.AppRunner(app)
        await runner.setup()
        everything.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        replicas = [f"http://127.0.0.1:{port}" for port in ports]
        settings = EngineSettings.model_validate({"replicas": replicas, "connect_timeout_s": 0.5})
        loras = Loras()
        client = VllmClient(settings, f"http://127.0.0.1:{runner.addresses[0][1]}", None, "base", loras)
        stacks = [await everything.enter_async_context(AsyncExitStack()) for _ in ports]
        made = Several(tmp_path, ports, peers, stacks, router, loras, client)
        await made.up(0)
        await made.up(1)
        await client.start(lambda _: None)
        everything.push_async_callback(client.stop)
        yield made
        for peer in peers:
            peer.hung.set()


async def test_a_promoted_adapter_is_on_every_engine(several: Several) -> None:
    await several.load("tone@1")
    assert [peer.loaded for peer in several.peers] == [["tone@1"], ["tone@1"], []]
    # The third is not there, and says so to whoever asks.
    assert list(several.client.lacking("tone@1")) == [several.url(2)]
    assert {await several.ask("tone@1") for _ in range(6)} == {200}
    assert several.peers[0].answered == several.peers[1].answered == {"tone@1": 3}
    # And what they measure of themselves is told together.
    measured = await several.client.measured()
    assert measured is not None
    assert measured.requests == 6


async def test_one_that_joins_late_has_it_before_it_is_asked_for_it(several: Several) -> None:
    await several.load("tone@1")
    await several.up(2, routed=False)
    await several.until(lambda: several.peers[2].loaded == ["tone@1"])
    assert several.client.lacking("tone@1") == {}


async def test_one_that_is_asked_before_anyone_knew_of_it_gets_it_then(several: Several) -> None:
    await several.load("tone@1")
    for _ in range(5):  # also one that is back within a moment, between two looks
        await several.down(0)
        await several.up(0)
        assert {await several.ask("tone@1") for _ in range(4)} == {200}
    assert several.peers[0].loaded == ["tone@1"]


async def test_requests_that_find_it_missing_together_all_get_their_answer(several: Several) -> None:
    await several.load("tone@1")
    several.peers[0].restart()
    several.peers[1].restart()
    assert set(await asyncio.gather(*(several.ask("tone@1") for _ in range(40)))) == {200}


async def test_who_leaves_while_it_is_brought_takes_nobodys_answer_along(several: Several) -> None:
    await several.load("tone@1")
    several.peers[0].restart()
    several.peers[1].hung.clear()
    several.router.known = [several.url(0)]
    leaving = asyncio.create_task(several.ask("tone@1"))
    await several.until(lambda: several.peers[0].loaded == ["tone@1"])  # and the other one is still being asked
    # What comes now is sent over the connection on which the first was told that the adapter is missing.
    several.router.known, before = [several.url(1)], several.router.turn
    staying = asyncio.create_task(several.ask("base"))
    await several.until(lambda: several.router.turn > before)
    assert not leaving.done()
    leaving.cancel()
    await asyncio.wait([leaving])
    several.peers[1].hung.set()
    assert await asyncio.wait_for(staying, 5) == 200


async def test_what_another_gateway_unloads_comes_back(several: Several) -> None:
    await several.load("tone@1")
    await several.peers[1].engine.unload_adapter("tone@1")
    assert await several.ask("tone@1") == 200
    await several.until(lambda: several.peers[1].loaded == ["tone@1"])


async def test_one_that_refuses_an_adapter_costs_that_name_alone(several: Several) -> None:
    several.peers[1].bad = frozenset({"big@1"})
    with pytest.raises(AdapterRefused, match=rf"{several.url(1)}.*rank 64"):
        await several.load("big@1")
    assert "rank 64" in (several.client.refusal("big@1") or "")
    await several.load("tone@1")
    assert {await several.ask(model) for model in ("tone@1", "base") for _ in range(4)} == {200}
    several.peers[1].bad = frozenset()
    await several.load("big@1")
    assert several.client.refusal("big@1") is None


async def test_one_that_refuses_what_it_had_leaves_the_name_to_the_others(several: Several) -> None:
    await several.load("tone@1")
    several.peers[1].bad = frozenset({"tone@1"})
    several.peers[1].restart()
    assert {await several.ask("tone@1") for _ in range(6)} == {200}
    assert "rank 64" in several.client.lacking("tone@1")[several.url(1)]
    assert several.client.refusal("tone@1") is None
    # Nobody is left that has it: said at once, and not after a search.
    several.peers[0].bad = frozenset({"tone@1"})
    several.peers[0].restart()
    with pytest.raises(AdapterUnavailable) as caught:
        await several.ask("tone@1")
    assert caught.value.retry_after_s
    assert "rank 64" in (several.client.refusal("tone@1") or "")
    assert await several.ask("base") == 200


async def test_one_that_hangs_holds_up_no_other(several: Several) -> None:
    await several.load("tone@1")
    several.peers[1].hung.clear()
    several.router.known.remove(several.url(1))
    # It may still be asked by a router, so nothing new is promised; and who it is, is said.
    with pytest.raises(EngineUnavailable, match=several.url(1)):
        await several.load("tone@2")
    several.peers[0].restart()
    await several.until(lambda: several.peers[0].loaded == ["tone@1"])
    assert await several.ask("tone@1") == 200
    several.peers[1].hung.set()
    await several.load("tone@2")
    assert several.peers[1].loaded == ["tone@1", "tone@2"]


async def test_unloading_reaches_all_of_them(several: Several) -> None:
    await several.load("tone@1")
    await several.client.unload_adapter("tone@1")
    assert [peer.loaded for peer in several.peers] == [[], [], []]
    assert several.client.refusal("tone@1") is not None


async def test_without_any_engine_there_is_nothing_to_promise(several: Several) -> None:
    await several.load("tone@1")
    await several.down(0)
    await several.down(1)
    with pytest.raises(EngineUnavailable):
        await several.load("tone@2")
    # Going back to what they all should have must always be possible.
    await several.load("tone@1")


async def test_a_name_stands_for_all_its_addresses() -> None:
    found = set(await addresses("http://localhost:8000/v1") or ())
    assert "http://127.0.0.1:8000/v1" in found
    assert await addresses("http://127.0.0.1:8000") == {"http://127.0.0.1:8000"}
    # A headless Service without pods; and a certificate is for a name.
    assert await addresses("http://nobody.invalid:8000") in ([], None)
    assert await addresses("https://engine.example:8443") == ["https://engine.example:8443"]


async def test_engines_come_and_go_by_their_name(tmp_path: Path) -> None:
    said: list[str] | None = []

    async def find(_: str) -> list[str] | None:
        return said

    first, second = SimulatedVllm(settings=SETTINGS), SimulatedVllm(settings=SETTINGS)
    loras, front = Loras(), Server("http://127.0.0.1:9", {}, 1)
    fleet = Fleet(loras, front, lambda url: Server(url, {}, 1), ["http://engines:8000"], find)
    async with served(first) as one, served(second) as two:
        with pytest.raises(EngineUnavailable):
            await fleet.load(lora(tmp_path, "tone@1"))
        said = [one, two]
        await fleet.load(lora(tmp_path, "tone@1"))
        said = None  # no answer from the DNS: what was known stays
        await fleet.load(lora(tmp_path, "tone@2"))
        assert first.loaded == second.loaded == ["tone@1", "tone@2"]
        said = [two]
        await fleet.load(lora(tmp_path, "tone@3"))
        assert (len(first.loaded), len(second.loaded)) == (2, 3)
        await fleet.close()
