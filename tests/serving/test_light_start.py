"""What a gateway without documents holds in memory: none of the libraries that only documents need."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from serving.library import has_documents
from tests.serving.gateways import settings_for

# A whole gateway, as the command starts it, but for the engine; then a first document, which brings the libraries in.
START = """
import asyncio, pathlib, sys
from serving.app import create_app, http_config
from serving.auth import LOCAL_OPERATOR
from serving.gateway import open_gateway
from tests.serving.gateways import PRICES, settings_for

HEAVY = {"torch", "transformers", "sentence_transformers", "chromadb", "onnxruntime", "psycopg", "matplotlib"}

async def main():
    settings = settings_for(pathlib.Path(sys.argv[1]))
    settings = settings.model_copy(update={"models": {"plain": settings.models["plain"]}})
    async with open_gateway(settings, lambda _: PRICES, "", lambda _: None) as gateway:
        await gateway.engine_started
        http_config(create_app(gateway), settings.server)
        ready = await gateway.readiness()
        assert ready["engine"] and ready["store"]
        assert await gateway.knowledge.names(LOCAL_OPERATOR) == []
        print("loaded", sorted(HEAVY & set(sys.modules)))
        groups = frozenset({"everyone"})
        await gateway.knowledge.ingest(LOCAL_OPERATOR, "kb", "a.md", b"# A\\n\\nThe gauge holds forty.\\n", groups)
        print("then", await gateway.knowledge.names(LOCAL_OPERATOR), {"torch", "chromadb"} <= set(sys.modules))

asyncio.run(main())
"""


def test_heavy_libraries_come_with_the_first_document(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines() == ["loaded []", "then ['kb'] True"], done.stderr


def test_whoever_has_documents_finds_them_ready_at_start(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"plain": {}}
    none = settings_for(tmp_path).model_copy(update={"models": {}})
    assert not has_documents(none)
    assert has_documents(settings_for(tmp_path, models=bare))  # one of the test's own has a knowledge base
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").touch()
    assert has_documents(none)
