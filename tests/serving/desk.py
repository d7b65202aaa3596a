"""A whole gateway asked without a socket, one call after the other: fast enough for thousands of calls in a test."""

import asyncio
import json
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from retrieval.hashing import HashingEmbedder
from serving.app import create_app
from serving.auth import Role
from serving.gateway import open_gateway
from tests.serving.gateways import PRICES, settings_for


@dataclass(frozen=True)
class Answer:
    """What came back, headers included: a leak may be anywhere."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text.split("\n\n", 1)[1])


class Desk:
    """Opens in a temporary folder. `close` takes everything away again."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._loop.run_until_complete(self._open())

    async def _open(self) -> None:
        opened = open_gateway(settings_for(self._folder), lambda _: PRICES, "", lambda _: None, HashingEmbedder())
        self.gateway = await self._stack.enter_async_context(opened)
        await self.gateway.engine_started
        transport = httpx.ASGITransport(create_app(self.gateway))
        self._http = await self._stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1")
        )

    def key(self, tenant: str, groups: list[str], role: Role) -> str:
        return self.gateway.keys.create(tenant, groups, role)

    def ask(self, key: str, method: str, path: str, body: Any = None, **form: Any) -> Answer:
        headers = {"authorization": f"Bearer {key}"}
        asked = self._http.request(method, path, headers=headers, json=body, **form)
        answer = self._loop.run_until_complete(asked)
        shown = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        return Answer(answer.status_code, f"{shown}\n\n{answer.text}")

    def wait(self, seconds: float) -> None:
        """Lets the background go on."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()
        shutil.rmtree(self._folder)
