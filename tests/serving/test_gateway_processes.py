"""Two gateways as processes of their own, one of them killed: nothing acknowledged is lost, and limits are exact."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.registry import Registry
from serving.auth import MAX_AGE_S
from tests.servers import Cluster
from tests.serving.adapter_folders import installed

ROOT = Path(__file__).parents[2]
MODELS = {"tone": {"adapter": "tone"}, "plain": {}}
ASK: dict[str, Any] = {"model": "tone", "messages": [{"role": "user", "content": "hello"}]}
PATIENCE_S = 60.0


class Gateway:
    """Started when made; `url` once it answers."""

    def __init__(self, home: Path, sections: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.serving.gateway_process", str(home), json.dumps(sections)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    async def url(self) -> str:
        assert self.process.stdout is not None
        url = (await asyncio.to_thread(self.process.stdout.readline)).strip()
        assert url, "the gateway did not start"
        return f"{url}/v1"


@pytest.fixture
async def two(servers: tuple[str, Cluster], tmp_path: Path) -> AsyncIterator[tuple[list[Gateway], list[str], Any]]:
    """(processes, URLs, a client with an operator's key made by the command line)."""
    shared = {"database_url": servers[1].url(), "retrieval": {"chroma_url": servers[0]}, "models": MODELS}
    installed(tmp_path / "one", range(2))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "adapters").symlink_to(tmp_path / "one" / "adapters")
    async with AsyncExitStack() as stack:
        gateways = [Gateway(tmp_path / name, shared) for name in ("one", "two")]
        for each in gateways:
            stack.callback(each.process.wait)
            stack.callback(each.process.kill)
        key = created(tmp_path, servers[1].url(), "--role", "operator")
        urls = [await each.url() for each in gateways]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, headers=bearer(key)))
        yield gateways, urls, http


def created(home: Path, database_url: str, *more: str) -> str:
    variables = {**os.environ, "BREAKEVEN_HOME": str(home / "elsewhere"), "BREAKEVEN_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "breakeven", "keys", "create", *more]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_one_is_killed_and_the_other_goes_on(
    two: tuple[list[Gateway], list[str], httpx.AsyncClient], servers: tuple[str, Cluster], tmp_path: Path
) -> None:
    gateways, (one, other), http = two
    # A key of the command line is good at both, and its limit counts both.
    key = bearer(await asyncio.to_thread(created, tmp_path, servers[1].url(), "--requests-per-minute", "5"))
    async with asyncio.timeout(MAX_AGE_S):
        for url in (one, other):
            while (await http.get(f"{url}/models", headers=key)).status_code != 200:  # noqa: ASYNC110  # no event for it
                await asyncio.sleep(0.05)
    asked = [http.post(f"{(one, other)[n % 2]}/chat/completions", json=ASK, headers=key) for n in range(16)]
    answers = await asyncio.gather(*asked)
    assert Counter(each.status_code for each in answers) == {200: 5, 429: 11}

    files = []
    for number in range(8):
        document = {"file": (f"{number}.md", b"# Pump %d\n\nPump %d is oiled in spring.\n" % (number, number))}
        sent = await http.post(f"{one}/files", data={"purpose": "assistants"}, files=document)
        files.append(sent.json()["id"])
    store = (await http.post(f"{one}/vector_stores", json={"name": "pumps"})).json()["id"]
    batch = (await http.post(f"{one}/vector_stores/{store}/file_batches", json={"file_ids": files})).json()["id"]
    registry = Registry(tmp_path / "one" / "adapters")
    (fresh,) = set(registry.versions("tone")) - set(registry.aliases("tone").values())
    promoted = await http.post(f"{one}/breakeven/adapters/tone/promote", json={"version": fresh})
    assert promoted.status_code == 200

    gateways[0].process.kill()
    # What it had begun is done by the other, and what it had decided is in force there.
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await http.get(f"{other}/vector_stores/{store}/file_batches/{batch}")).json()
            if found["status"] != "in_progress":
                break
            await asyncio.sleep(0.1)
    assert found["file_counts"]["completed"] == 8, found
    for id in files:
        assert (await http.get(f"{other}/files/{id}/content")).content.startswith(b"# Pump")
    answer = (await http.post(f"{other}/chat/completions", json=ASK)).json()
    assert answer["breakeven"]["adapter"] == f"tone@{fresh}"
    # Its lock on the registry went with it.
    rolled = await http.post(f"{other}/breakeven/adapters/tone/rollback", json={})
    assert (rolled.status_code, rolled.json()["version"] != fresh) == (200, True)
