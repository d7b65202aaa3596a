"""Servers that are away, slow, closed to us or broken: a clear line each, and everything works again when they do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from retrieval.chunking import Chunker
from retrieval.errors import StoreFailed, StoreUnreachable
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.postgres import Postgres
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaDatabase, ChromaServer
from tests.servers import PASSWORD, Cluster, chroma_server, free_port

EMBEDDER = HashingEmbedder()
ME = Scope("acme", frozenset({"everyone"}))


def retriever(path: Path, servers: Servers) -> tuple[Store, Retriever]:
    store = Store(path, EMBEDDER.fingerprint, EMBEDDER.dimensions, servers=servers)
    return store, Retriever(store, EMBEDDER, Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))


@contextmanager
def gate(upstream: str, *, key: str | None = None, status: int = 0, hang: bool = False) -> Iterator[str]:
    """A proxy before Chroma, as people put one there: asks for a key, or fails; `status` and `hang` after the start."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if key is not None and self.headers.get("authorization") != f"Bearer {key}":
                self.reply(401, b"who are you?")
            elif hang and "collections" in self.path:
                stop.wait(20)
            elif status and "collections" in self.path:
                self.reply(status, b"<html>bad gateway</html>")
            else:
                kind = {"content-type": self.headers.get("content-type") or "application/json"}
                given = httpx.request(self.command, upstream + self.path, content=body, headers=kind, timeout=60)
                self.reply(given.status_code, given.content)

        do_GET = do_POST = do_DELETE = do_PUT = answer  # the names that the library calls

        def reply(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            stop.set()
            server.shutdown()


def test_no_server_at_start(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreUnreachable, match=rf"the Chroma server at {url} cannot be reached \(.*refused\); check"):
        ChromaDatabase(ChromaServer(url), 10)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        StoreUnreachable, match=r"PostgreSQL at 127\.0\.0\.1:\d+ cannot be reached .*database_url"
    ) as said:
        Postgres(f"postgresql://me:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(said.value)


def test_a_key_for_chroma(chroma_url: str) -> None:
    with gate(chroma_url, key="open sesame") as url:
        for wrong in (None, "other"):
            with pytest.raises(StoreUnreachable, match=r"it answered 401: is retrieval\.chroma_api_key right\?"):
                ChromaDatabase(ChromaServer(url, wrong), 10)
        database = ChromaDatabase(ChromaServer(url, "open sesame"), 10)
        assert database.healthy()
        database.close()


@pytest.mark.parametrize(("trouble", "error"), [({"status": 502}, StoreFailed), ({"hang": True}, StoreUnreachable)])
def test_a_chroma_that_answers_badly(
    chroma_url: str, tmp_path: Path, trouble: dict[str, Any], error: type[Exception]
) -> None:
    with gate(chroma_url, **trouble) as url, pytest.raises(error, match=r"bad gateway|timed out"):
        retriever(tmp_path, Servers(ChromaServer(url, timeout_s=1)))


def test_chroma_dies_and_comes_back(tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "server"
    with chroma_server(data, port) as (url, _):
        store, search = retriever(tmp_path, Servers(ChromaServer(url)))
        search.ingest(ME, "kb", "a.md", b"annual leave")
    for call in (
        lambda: search.search(ME, "kb", "leave", 4, -1.0),
        lambda: search.ingest(ME, "kb", "b.md", b"sick leave"),
    ):
        with pytest.raises(StoreUnreachable, match="the Chroma server cannot be reached"):
            call()
    assert not store.healthy()
    with chroma_server(data, port):
        assert search.ingest(ME, "kb", "b.md", b"sick leave").status == "added"
        found = search.search(ME, "kb", "leave", 4, -1.0).passages
        assert sorted(passage.text for passage in found) == ["annual leave", "sick leave"]
        store.close()


def test_postgres_dies_and_comes_back(servers: tuple[str, Cluster], tmp_path: Path) -> None:
    url, cluster = servers
    store, search = retriever(tmp_path, Servers(ChromaServer(url), Postgres(cluster.url())))
    search.ingest(ME, "kb", "a.md", b"annual leave")
    cluster.stop()
    try:
        for call in (
            lambda: search.search(ME, "kb", "leave", 4, -1.0),
            lambda: search.ingest(ME, "kb", "b.md", b"sick leave"),
        ):
            with pytest.raises(StoreUnreachable, match="PostgreSQL"):
                call()
        assert not store.healthy()
    finally:
        cluster.start()
    assert search.ingest(ME, "kb", "b.md", b"sick leave").status == "added"
    found = search.search(ME, "kb", "leave", 4, -1.0).passages
    assert sorted(passage.text for passage in found) == ["annual leave", "sick leave"]
    store.close()


def test_a_role_without_rights_is_told_what_it_needs(postgres: Cluster) -> None:
    postgres.empty()
    postgres.run_sql(f"DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    postgres.run_sql("REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
    with pytest.raises(StoreFailed, match=r"permission denied.*CREATE EXTENSION btree_gin"):
        Postgres(postgres.url().replace("breakeven:", "guest:"))
    with pytest.raises(StoreUnreachable, match="password authentication failed"):
        Postgres(postgres.url().replace(PASSWORD, "wrong"))
    with pytest.raises(StoreUnreachable, match="does not exist"):
        Postgres(postgres.url("nowhere"))


def test_tables_of_another_version_are_refused(postgres: Cluster) -> None:
    postgres.empty()
    Postgres(postgres.url()).close()
    postgres.run_sql("UPDATE breakeven.schema_version SET version = 99")
    with pytest.raises(StoreFailed, match="version 99"):
        Postgres(postgres.url())
