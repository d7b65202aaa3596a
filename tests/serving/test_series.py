"""The number of time series is bounded by the configuration, whatever names clients invent."""

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp

from tests.serving.gateways import running, settings_for

NAMES = 60
HOSTILE = ['"', "\\", "\n", "{", "}", ",", "=", "\t", "\x00", "é", "😀", "model", "plain", "@", "../", "%00", " "]
ENDPOINTS = ("chat/completions", "completions", "responses", "embeddings")


def _name(source: random.Random) -> str:
    return "".join(source.choices(HOSTILE, k=source.randint(1, 40)))


def _bodies(source: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """Requests whose names are clients' inventions; half of them name a served model, so that they are answered."""
    found = []
    for number in range(NAMES):
        text = f"plain {number}"
        model = _name(source) if number % 2 else source.choice(["plain", "books", "plain@" + _name(source)])
        about = {"model": model, "user": _name(source), "metadata": {_name(source)[:60]: _name(source)}}
        asked = {"messages": [{"role": "user", "content": text, "name": _name(source)}]}
        inputs = {"completions": {"prompt": text}, "responses": {"input": text}, "embeddings": {"input": text}}
        found += [(endpoint, {**about, **inputs.get(endpoint, asked)}) for endpoint in ENDPOINTS]
    return found


async def _send(http: aiohttp.ClientSession, url: str, bodies: list[tuple[str, dict[str, Any]]]) -> set[int]:
    statuses = set()
    for endpoint, body in bodies:
        headers = {"x-request-id": "req-hostile", "user-agent": str(body["user"].encode())}
        async with http.post(f"{url}/v1/{endpoint}", json=body, headers=headers) as answer:
            await answer.read()
            statuses.add(answer.status)
    return statuses


async def _series(http: aiohttp.ClientSession, url: str) -> set[str]:
    async with http.get(f"{url}/metrics") as answer:
        text = await answer.text()
    return {line.rpartition(" ")[0] for line in text.split("\n") if line and not line.startswith("#")}


async def test_hostile_names_make_no_series(tmp_path: Path) -> None:
    source = random.Random(6)
    first, later = _bodies(source), _bodies(source)
    async with running(settings_for(tmp_path)) as stack, aiohttp.ClientSession() as http:
        # A first lot brings out every combination of endpoint, outcome and status that there is.
        statuses = await _send(http, stack.url, first)
        assert {200, 404} <= statuses
        known = await _series(http, stack.url)
        half = len(later) // 2
        await asyncio.gather(_send(http, stack.url, later[:half]), _send(http, stack.url, later[half:]))
        grown = await _series(http, stack.url)
    assert grown == known
    assert not [line for line in grown if any(each in line for each in ("😀", "é", "../", "%00", "\\\\"))]
