"""A gateway with keys of two tenants, and OpenAI's client for each: what every test of isolation needs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import openai

from serving.auth import EVERYONE, LOCAL_TENANT
from tests.serving.gateways import Running, running, settings_for

TEXT = b"# Brewing\n\nThe kettle holds nine litres of wort and boils for an hour.\n"
QUESTION = "How many litres of wort does the kettle hold"


@dataclass(frozen=True)
class Tenants:
    """`ours` and `theirs` are operators of different tenants, `user` asks for ours; `ours` owns the book `books`."""

    stack: Running
    ours: openai.AsyncOpenAI
    theirs: openai.AsyncOpenAI
    user: openai.AsyncOpenAI


@asynccontextmanager
async def tenants(home: Path) -> AsyncIterator[Tenants]:
    """Keys exist, so nobody gets in without one."""
    async with running(settings_for(home)) as stack, AsyncExitStack() as clients:
        keys = stack.gateway.keys
        made = [
            keys.create(LOCAL_TENANT, [EVERYONE], "operator"),
            keys.create("rival", [EVERYONE], "operator"),
            keys.create(LOCAL_TENANT, [EVERYONE], "user"),
        ]
        base = f"{stack.url}/v1"
        ours, theirs, user = [
            await clients.enter_async_context(openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0))
            for key in made
        ]
        yield Tenants(stack, ours, theirs, user)


async def filled(client: openai.AsyncOpenAI, name: str = "kettles", text: bytes = TEXT) -> tuple[str, str]:
    """A vector store with one file in it: (store id, file id)."""
    store = await client.vector_stores.create(name=name)
    done = await client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("kettle.md", text))
    assert done.status == "completed", done.last_error
    return store.id, done.id
