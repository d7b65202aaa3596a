"""What a gateway without documents holds in memory: none of the libraries that only documents need."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.library import has_documents
from tests.serving.gateways import settings_for

# Of the process that answers, its engine not counted. FastAPI and uvicorn alone take 47 of them, measured; what the
# gateway adds is code.
MOST_MB = 75
# What `breakeven serve` runs, with one question and then a first document, which brings the libraries in.
START = """
import asyncio, os, pathlib, signal, sys
from contextlib import AsyncExitStack
import uvloop
from breakeven import serve
from serving.app import bind, create_app, run, settle
from serving.auth import LOCAL_OPERATOR
from serving.gateway import open_gateway
from serving.settings import load_settings

HEAVY = {
    "torch", "transformers", "sentence_transformers", "chromadb", "onnxruntime", "psycopg", "matplotlib", "numpy",
    "tokenizers", "huggingface_hub", "httpx", "aiohttp", "tantivy", "semantic_text_splitter", "jsonschema", "scipy",
    "retrieval.store", "benchmarks.economics",
}
BODY = b'{"model": "plain", "messages": [{"role": "user", "content": "hello"}]}'
HEAD = b"POST %s HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n"

async def ask(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD % (path, len(BODY)) + BODY)
    return (await reader.read())[9:12].decode()

async def main():
    settings, app = load_settings(pathlib.Path(sys.argv[1])), create_app()
    listener = bind(settings.server)
    port = listener.getsockname()[1]
    async with AsyncExitStack() as stack:
        async def ready():
            economist, prices = serve._economist(settings), serve._prices_for(settings)
            opened = open_gateway(settings, prices, "", lambda _: None, economist_for=economist)
            gateway = app.state.gateway = await stack.enter_async_context(opened)
            await gateway.engine_started
            settle()
            checks = await gateway.readiness()
            print(checks["engine"], checks["store"], await gateway.knowledge.names(LOCAL_OPERATOR))
            print(*[await ask(port, path) for path in (b"/v1/chat/completions", b"/v1/chat/%63ompletions")])
            print(sorted(HEAVY & set(sys.modules)))
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            print(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            groups = frozenset({"everyone"})
            await gateway.knowledge.ingest(LOCAL_OPERATOR, "kb", "a.md", b"# A\\n\\nThe gauge holds forty.\\n", groups)
            print(await gateway.knowledge.names(LOCAL_OPERATOR), {"torch", "chromadb"} <= set(sys.modules))
            os.kill(os.getpid(), signal.SIGINT)
        await run(app, listener, settings.server, ready)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.slow
def test_heavy_libraries_come_with_the_first_document(tmp_path: Path) -> None:
    settings = {
        "home": str(tmp_path / "home"),
        "server": {"port": 0},
        "engine": {"kind": "simulated"},
        "models": {"plain": {}},
    }
    (tmp_path / "breakeven.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path / "breakeven.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    ready, answered, loaded, resident_mb, then = done.stdout.splitlines() or [done.stderr] * 5
    assert (ready, answered, loaded) == ("True True []", "200 200", "[]"), done.stderr
    assert float(resident_mb) <= MOST_MB, resident_mb
    assert then == "['kb'] True"


def test_whoever_has_documents_finds_them_ready_at_start(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"plain": {}}
    none = settings_for(tmp_path).model_copy(update={"models": {}})
    assert not has_documents(none)
    assert has_documents(settings_for(tmp_path, models=bare))  # one of the test's own has a knowledge base
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").touch()
    assert has_documents(none)
