"""Starts a whole gateway on loopback for a test: real HTTP, real Chroma, a fast embedder, any engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn

from retrieval.hashing import HashingEmbedder
from serving.accounting.cost import ApiPrice, GpuPrice, Prices
from serving.app import bind, create_app, http_config
from serving.auth import LOCAL_OPERATOR
from serving.gateway import EconomistFor, Gateway, open_gateway
from serving.sections import Settings

GPU = GpuPrice("test-gpu", (), Decimal("3.60"), "test", "2026-01-01", "assumed")
HOSTED = ApiPrice("hosted", "test", Decimal("1"), Decimal("0.5"), Decimal("4"), "test", "2026-01-01", None)
PRICES = Prices(GPU, (HOSTED,))
DOCUMENT = b"# Gauges\n\n## Rain\n\nThe rain gauge holds forty millimetres of water.\n"
MODELS: dict[str, Any] = {
    "plain": {},
    "books": {"knowledge": "books", "min_score": 0.2, "abstain_message": "Not in the books."},
    "polite": {"system_prompt": "Be polite.", "defaults": {"max_tokens": 5}},
}


@dataclass(frozen=True)
class Running:
    """A gateway that answers at `url`."""

    url: str
    gateway: Gateway


def settings_for(home: Path, **sections: Any) -> Settings:
    """Settings of a simulated gateway on a free port; `sections` are merged in."""
    tree: dict[str, Any] = {
        "home": home,
        "server": {"port": 0, "shutdown_s": 1},
        "engine": {"kind": "simulated", "simulated_ttft_s": 0, "simulated_itl_s": 0},
        "models": MODELS,
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section} if isinstance(section, dict) else section
    return Settings.model_validate(tree)


@asynccontextmanager
async def running(settings: Settings, economist_for: EconomistFor | None = None) -> AsyncIterator[Running]:
    """A served gateway whose engine has started; one document is in the knowledge base `books`."""
    listener = bind(settings.server)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    embedder = HashingEmbedder()
    opened = open_gateway(settings, lambda _: PRICES, url, lambda _: None, embedder, economist_for)
    async with opened as gateway:
        await gateway.engine_started
        server = uvicorn.Server(http_config(create_app(gateway), settings.server))
        serving = asyncio.create_task(server._serve([listener]))
        try:
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.005)
            await gateway.knowledge.ingest(LOCAL_OPERATOR, "books", "gauges.md", DOCUMENT, frozenset({"everyone"}))
            gateway.documents_in.set()
            yield Running(url, gateway)
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await serving
