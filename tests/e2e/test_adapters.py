"""A new adapter version on the real engine: refused, forced, tried, lost with the engine, found worse, rolled back.

While all that happens, requests are made without a pause, and none of them fails but those that ran when we killed the
engine ourselves.
"""

import asyncio
import json
import os
import shutil
import signal
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from adapters.manifest import MANIFEST, WEIGHTS, content_version
from adapters.registry import Registry
from tests.conftest import HOME, ROOT, Stack, run_command

pytestmark = pytest.mark.e2e
SAMPLE = ROOT / "examples" / "support" / "adapter"


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=180) as sdk:
        yield sdk


@pytest.fixture
def useless(tmp_path: Path) -> Path:
    """The sample adapter with nothing but zeros in it: it answers as the base model does, without the trained form."""
    folder = tmp_path / "useless"
    shutil.copytree(SAMPLE, folder)
    content = (folder / WEIGHTS).read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    (folder / WEIGHTS).write_bytes(content[:start] + bytes(len(content) - start))
    stated = json.loads((folder / MANIFEST).read_text())
    fresh = {**stated, "version": content_version(folder), "scores": []}
    (folder / MANIFEST).write_text(json.dumps(fresh))
    return folder


async def command(*arguments: str) -> tuple[int, str]:
    done = await asyncio.to_thread(run_command, "adapters", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


async def ask(client: openai.AsyncOpenAI, user: str, max_tokens: int = 1) -> dict[str, Any]:
    question: Any = [{"role": "user", "content": "My order arrived broken. What now?"}]
    answer = await client.chat.completions.create(model="support", messages=question, user=user, max_tokens=max_tokens)
    found: dict[str, Any] = answer.model_dump()["breakeven"]
    assert answer.model == found["adapter"]
    return {**found, "text": answer.choices[0].message.content}


async def ask_and_vote(http: aiohttp.ClientSession, stack: Stack, client: openai.AsyncOpenAI, user: str) -> None:
    """As somebody would who likes the trained form, which shows in an answer's first words."""
    found = await ask(client, user, 8)
    vote = {"request_id": found["request_id"], "vote": "up" if found["text"].startswith("**Answer:**") else "down"}
    async with http.post(f"{stack.url}/v1/feedback", json=vote) as response:
        assert response.status == 200, await response.text()


async def keep_asking(client: openai.AsyncOpenAI, stop: asyncio.Event, seen: list[str]) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        seen.append((await ask(client, f"steady-{number % 20}", 4))["adapter"])


async def test_from_a_refused_promotion_to_an_automatic_roll_back(
    stack: Stack, client: openai.AsyncOpenAI, useless: Path
) -> None:
    registry = Registry(HOME / "adapters")
    if "canary" in registry.aliases("support"):  # of a run that was broken off
        await command("rollback", "support", "--alias", "canary")
    good = registry.resolve("support").engine_name
    status, said = await command("add", str(useless))
    assert status == 0, said
    bad = said.split()[0]
    assert bad != good

    stop, seen = asyncio.Event(), list[str]()
    load = [asyncio.create_task(keep_asking(client, stop, seen)) for _ in range(2)]
    status, said = await command("promote", bad)
    assert status == 1 and "format_adapter" in said and "never measured" in said
    assert (await command("promote", bad, "--force"))[0] == 1  # without a reason
    assert (await command("promote", bad, "--force", "--reason", "the test needs it"))[0] == 0
    assert (await ask(client, "anybody"))["adapter"] == bad
    assert (await command("rollback", "support", "--reason", "it was a test"))[0] == 0
    assert (await ask(client, "anybody"))["adapter"] == good
    trial = ("promote", bad, "--alias", "canary", "--force", "--reason", "to see it found out")
    assert (await command(*trial))[0] == 0
    stop.set()
    await asyncio.gather(*load)  # raises if any request failed
    assert {good, bad} <= set(seen)

    users = [f"user-{number}" for number in range(60)]
    arms = {user: (await ask(client, user))["alias"] for user in users}
    assert set(arms.values()) == {"prod", "canary"}
    await kill_the_engine(stack)
    # Both versions are there again, and everyone is answered by the one that answered before.
    again = {user: (await ask(client, user))["alias"] for user in users[:20]}
    assert again == {user: arms[user] for user in users[:20]}

    canary = [user for user in users if arms[user] == "canary"]
    await vote_it_out(stack, client, [user for user in users if arms[user] == "prod"], canary)
    assert "canary test" in (await command("show", "support"))[1]
    assert {(await ask(client, user))["adapter"] for user in canary} == {good}
    last = registry.log.decisions("support")[-1]
    assert (last["action"], last["who"]) == ("rollback", "canary test")
    assert last["seen"]["source"] == "vote"
    assert last["seen"]["canary"]["mean"] < last["seen"]["prod"]["mean"]
    assert last["seen"]["e_value"] >= last["seen"]["threshold"]
    assert (await command("rm", bad))[0] == 0
    assert f"{bad}" not in (await command("list"))[1]


async def vote_it_out(stack: Stack, client: openai.AsyncOpenAI, prod: list[str], canary: list[str]) -> None:
    """Four answers of prod for one of the canary, until its answers have been found to lack the form."""
    registry = Registry(HOME / "adapters")
    async with aiohttp.ClientSession() as http:
        for number in range(12):
            turn = [canary[number % len(canary)], *(prod[(4 * number + each) % len(prod)] for each in range(4))]
            await asyncio.gather(*(ask_and_vote(http, stack, client, user) for user in turn))
            if "canary" not in registry.aliases("support"):
                return
    pytest.fail("the canary was not rolled back")


async def kill_the_engine(stack: Stack) -> None:
    os.kill(stack.engine_core(), signal.SIGKILL)
    async with aiohttp.ClientSession() as http:
        for wanted in (503, 200):
            deadline = time.monotonic() + 600
            while True:
                async with http.get(f"{stack.url}/readyz") as response:
                    if response.status == wanted:
                        break
                assert time.monotonic() < deadline, f"/readyz did not become {wanted}"
                await asyncio.sleep(0.05)
