"""An OpenAI endpoint on loopback that answers as a test says: the other side of the evaluation's client."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

# Takes the path and the body of a request; returns a status and the text of an answer, or a whole choice.
Say = Callable[[str, dict[str, Any]], tuple[int, Any]]
ADAPTER = "demo"


@dataclass
class Endpoint:
    """`asked` has every body in the order it came."""

    url: str
    say: Say
    models: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    simulated: bool = False
    version: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        status, said = self.say(request.path.removeprefix("/v1"), body)
        if status != 200:
            return web.json_response({"error": {"message": said}}, status=status)
        choice = said if isinstance(said, dict) else {"message": {"role": "assistant", "content": said}}
        cost = {"usage_usd": "0.0000010000", "allocation_usd": "0.0000020000"}
        adapter = self.version if body["model"] != "base" else None
        extension = {"simulated": self.simulated, "cost": cost, "adapter": adapter}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 3}, "breakeven": extension})


@asynccontextmanager
async def endpoint(version: str, say: Say) -> AsyncIterator[Endpoint]:
    """Serves the adapter version as `demo`, with documents as `demo-docs`, and the plain `base`."""
    app = web.Application()
    found = Endpoint("", say, version=version)
    binds = {
        "demo-docs": {"adapter": version, "knowledge": "books"},
        "demo": {"adapter": version},
        "base": {"adapter": None},
    }
    found.models = [{"id": name, "breakeven": bound} for name, bound in binds.items()]

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": found.models})

    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", found.answer)
    app.router.add_post("/v1/completions", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield found
    finally:
        await runner.cleanup()
