"""A small OpenAI server that can misbehave, over real sockets on loopback, with a gateway's Prometheus page."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from benchmarks.load.arrivals import Closed, Open
from benchmarks.load.plan import LoadPlan, Target, Tenant
from benchmarks.load.workload import synthetic

COST = {"allocation_usd": "0.0000300000", "usage_usd": "0.0000100000"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
TOKENS = ("one", " two", " three")

Write = Callable[[object], Awaitable[None]]


class FakeOpenAI:
    """Answers three tokens; the model's name says how it goes wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.names = ["whole", "abstains", "cut", "undone", "breaks", "fails", "garbage", "hangs"]
        self.wait_s = 0.0
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.connections: set[object] = set()
        self.counted = {"requests": 0, "prompt": 0, "completion": 0}
        self.beside = 0  # requests that others make for each of ours
        self.has_metrics = True
        self.places = asyncio.Semaphore(1000)
        self.now = 0
        self.most = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/v1/models", self._models), web.post("/v1/chat/completions", self._chat)])
        app.add_routes([web.get("/metrics", self._metrics), web.get("/version", self._version)])
        return app

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.1.0"})

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.has_metrics:
            return web.Response(status=404)
        found, tokens, cost = self.counted, "breakeven_tokens_total", "breakeven_cost_usd_total"
        lines = [
            f'breakeven_requests_total{{endpoint="chat",model="whole",outcome="complete"}} {found["requests"]}',
            *(f'{tokens}{{kind="{kind}",model="whole"}} {found[kind]}' for kind in ("prompt", "completion")),
            *(
                f'{cost}{{basis="{basis}",model="whole"}} {float(COST[f"{basis}_usd"]) * found["requests"]:.12f}'
                for basis in ("allocation", "usage")
            ),
            'breakeven_price_info{as_of="2026-11-01",basis="quoted",id="a10g",source="list"} 1.5',
            f"breakeven_bill_usd_total {0.001 * found['requests']}",
            *(
                f'breakeven_gpu_seconds_total{{state="{s}"}} {v * found["requests"]}'
                for s, v in (("busy", 1), ("billed", 4))
            ),
        ]
        return web.Response(text="\n".join(lines) + "\n")

    def _count(self) -> None:
        for kind, amount in (("requests", 1), ("prompt", 7), ("completion", 3)):
            self.counted[kind] += amount * (1 + self.beside)

    async def _models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == "Bearer wrong":
            return web.json_response({"error": {"message": "no"}}, status=401)
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.names]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self.connections.add(request.transport)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            async with self.places:
                await asyncio.sleep(60 if body["model"] == "hangs" else self.wait_s)
            if body["model"] == "fails":
                return web.json_response({"error": {"message": "engine down"}}, status=503)
            return await (self._stream(request, body["model"]) if body["stream"] else self._whole(body["model"]))
        finally:
            self.now -= 1

    async def _whole(self, model: str) -> web.Response:
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        extension = {"cost": COST, "abstained": model == "abstains"}
        self._count()
        return web.json_response({"choices": [choice], "usage": USAGE, "breakeven": extension})

    async def _stream(self, request: web.Request, model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def write(event: object) -> None:
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")

        await write({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for token in TOKENS:
            await write({"choices": [{"index": 0, "delta": {"content": token}}]})
        if model == "cut" and request.transport is not None:
            request.transport.close()
        elif model == "garbage":
            await response.write(b"data: <html>\n\n")
        elif model == "breaks":
            await write({"error": {"message": "engine lost"}})
        elif model != "undone":
            await self._end(response, write, abstained=model == "abstains")
        return response

    async def _end(self, response: web.StreamResponse, write: Write, *, abstained: bool) -> None:
        extension = {"cost": COST, "abstained": abstained}
        await write({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "breakeven": extension})
        await write({"choices": [], "usage": USAGE})
        await response.write(b"data: [DONE]\n\n")
        self._count()


def plan(server: FakeOpenAI, model: str = "whole", concurrency: int = 2, **changes: Any) -> LoadPlan:
    plain: dict[str, Any] = {"load": Closed(concurrency), "requests": None if "duration_s" in changes else 4}
    if "rate" in changes:
        plain["load"] = Open(changes.pop("rate"), changes.pop("burstiness", 1.0))
    if key := changes.pop("api_key", None):
        plain["tenants"] = (Tenant("default", key),)
    return LoadPlan(**{"url": server.url, "targets": (Target(model),), "workload": synthetic(5), **plain, **changes})
