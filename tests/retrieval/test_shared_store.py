"""Several processes on one Chroma server and one PostgreSQL: each sees what the others wrote, at once and whole.

Writers that are killed in the middle leave nothing that a question could see, and nothing at all once somebody starts.
"""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.chunking import Chunker
from retrieval.errors import EmbedderMismatch, UnknownKnowledge, VectorsElsewhere
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Policy, Retriever
from retrieval.postgres import Postgres
from retrieval.search import Base, Mode
from retrieval.selection import Limits
from retrieval.shared_bases import SharedBases
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaDatabase, ChromaServer
from tests.servers import Cluster, chroma_server, empty_chroma

EMBEDDER = HashingEmbedder()
EVERYONE = frozenset({"everyone"})
ME = Scope("acme", EVERYONE)
PARTS, DOCUMENTS = 4, 5
MODES: tuple[Mode, ...] = ("dense", "lexical")

# Changes documents at random until it is killed, or as often as it is told.
WRITE = """
import random, sys
from pathlib import Path
from retrieval.chunking import Chunker
from retrieval.hashing import HashingEmbedder
from retrieval.pipeline import Retriever
from retrieval.passages import Scope
from retrieval.postgres import Postgres
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaServer

chroma, database, name, steps = sys.argv[1:]
embedder = HashingEmbedder()
servers = Servers(ChromaServer(chroma), Postgres(database))
store = Store(Path("unused"), embedder.fingerprint, embedder.dimensions, batch=1, servers=servers)  # places to die in
retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
scope, chance = Scope("acme", frozenset({"everyone"})), random.Random(name)
for step in range(int(steps)):
    number, version = chance.randrange(5), f"{name}x{step}"
    text = "\\n\\n".join(f"doc {number} version {version} part {part} " + "word " * 40 for part in range(4))
    if chance.random() < 0.2:
        retriever.remove(scope, "kb", f"d{number}.md")
    else:
        retriever.ingest(scope, "kb", f"d{number}.md", text.encode())
    print(step, flush=True)
"""
OpenStore = Callable[[], Store]


@pytest.fixture
def open_store(servers: tuple[str, Cluster], tmp_path: Path) -> Iterator[OpenStore]:
    """A gateway's store, as another process would open it: with connections of its own."""
    chroma, cluster = servers
    opened: list[Store] = []

    def another(embedder: HashingEmbedder = EMBEDDER) -> Store:
        opened.append(shared(tmp_path, chroma, cluster, embedder))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


def shared(path: Path, chroma: str, cluster: Cluster, embedder: HashingEmbedder = EMBEDDER) -> Store:
    servers = Servers(ChromaServer(chroma), Postgres(cluster.url()))
    return Store(path, embedder.fingerprint, embedder.dimensions, servers=servers)


def retriever(store: Store, mode: Mode = "hybrid") -> Retriever:
    policy = Policy(mode, Limits(per_source=100, duplicate=2, neighbours=0))
    return Retriever(store, EMBEDDER, Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens), policy)


def texts(store: Store, question: str = "leave") -> list[str]:
    return sorted(passage.text for passage in retriever(store).search(ME, "kb", question, 100, -1.0).passages)


def put(store: Store, source: str, text: str) -> str:
    return retriever(store).ingest(ME, "kb", source, text.encode()).status


def versions_found(store: Store, mode: Mode) -> Counter[tuple[str, str]]:
    """(document, version) of every passage."""
    passages = retriever(store, mode).search(ME, "kb", "doc version part", 100, -1.0).passages
    words = [passage.text.split() for passage in passages]
    return Counter((number, version) for _, number, _, version, *_ in words)


def assert_whole(found: Counter[tuple[str, str]]) -> None:
    assert set(found.values()) <= {PARTS}, found
    assert len({number for number, _ in found}) == len(found), "two versions of one document"


def write(servers: tuple[str, Cluster], name: str, steps: int) -> "subprocess.Popen[str]":
    chroma, cluster = servers
    command = [sys.executable, "-c", WRITE, chroma, cluster.url(), name, str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_nothing_left(store: Store, cluster: Cluster) -> None:
    """Chroma, catalogue, index and its statistics agree, and no writer is remembered."""

    def compare(base: Base) -> None:
        current = {version: entry.info.chunks for version, entry in base.catalogue.versions().items()}
        assert Counter(id.rpartition("-")[0] for id in base.vectors.matching(None)) == current
        assert base.lexical.sizes() == current

    store.read("acme", "kb", compare)
    assert cluster.run_sql("SELECT * FROM breakeven.leftovers") == []
    counted = cluster.run_sql("SELECT term, passages FROM breakeven.terms WHERE passages <> 0")
    real = cluster.run_sql("SELECT word, ndoc::bigint FROM ts_stat('SELECT words FROM breakeven.passages')")
    assert sorted(counted) == sorted(real)
    sums = "SELECT count(*), sum(length)::bigint FROM breakeven.passages"
    assert cluster.run_sql("SELECT passages, words FROM breakeven.bases") == cluster.run_sql(sums)


def test_what_one_writes_the_other_answers_at_once(open_store: OpenStore) -> None:
    one, two = open_store(), open_store()
    with pytest.raises(UnknownKnowledge):
        texts(two)
    assert put(one, "a.md", "annual leave") == "added"
    assert texts(two) == ["annual leave"]
    assert put(two, "a.md", "annual leave") == "unchanged"
    assert put(two, "a.md", "parental leave") == "updated"
    assert texts(one) == ["parental leave"]
    assert two.delete_document("acme", "kb", "a.md") and not one.delete_document("acme", "kb", "a.md")
    assert texts(one) == [] == one.documents("acme", "kb")
    put(one, "a.md", "leave again")
    one.drop_knowledge("acme", "kb")
    for store in (one, two):
        with pytest.raises(UnknownKnowledge):
            texts(store)
        assert store.knowledge_bases("acme") == []
    put(two, "b.md", "leave of another")
    assert texts(one) == ["leave of another"]
    assert one.count() == two.count() == 1


def test_writers_in_several_processes_and_a_reader(open_store: OpenStore, servers: tuple[str, Cluster]) -> None:
    store = open_store()
    put(store, "d0.md", "\n\n".join(f"doc 0 version first part {part} " + "word " * 40 for part in range(PARTS)))
    looks = 0
    seen: set[tuple[str, str]] = set()
    with write(servers, "a", 40) as one, write(servers, "b", 40) as two:
        try:
            while one.poll() is None or two.poll() is None:
                for mode in MODES:
                    found = versions_found(store, mode)
                    assert_whole(found)
                    seen |= set(found)
                    looks += 1
        finally:
            one.kill()
            two.kill()
    assert (one.returncode, two.returncode) == (0, 0)
    assert looks > 10
    assert len(seen) > 10  # it did see them change
    assert_nothing_left(store, servers[1])


@pytest.mark.slow
def test_killed_writers_leave_nothing(open_store: OpenStore, servers: tuple[str, Cluster]) -> None:
    store, chance = open_store(), random.Random(7)
    put(store, "d0.md", "\n\n".join(f"doc 0 version first part {part} " + "word " * 40 for part in range(PARTS)))
    interrupted = 0
    for life in range(8):
        with write(servers, f"life{life}", 1000) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 4)):
                writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.15))  # a step takes about that long
            writer.kill()
        assert_whole(versions_found(store, "dense"))
        assert_whole(versions_found(store, "lexical"))
        interrupted += bool(servers[1].run_sql("SELECT * FROM breakeven.leftovers"))
        if life == 3:  # nobody starts, but somebody writes all of it again
            for number in range(DOCUMENTS):
                put(store, f"d{number}.md", f"doc {number} version mended part")
            assert_nothing_left(store, servers[1])
            for number in range(DOCUMENTS):
                store.delete_document("acme", "kb", f"d{number}.md")
    assert interrupted > 0, "no writer was killed in the middle: the test has tested nothing"
    assert_nothing_left(open_store(), servers[1])  # whoever starts cleans up
    assert versions_found(open_store(), "dense") == versions_found(store, "lexical")


@pytest.mark.parametrize(
    ("step", "seen"), [("begun", "old leave"), ("written", "old leave"), ("switched", "new leave"), ("condemned", None)]
)
def test_a_writer_that_ends_after_each_step(
    open_store: OpenStore, servers: tuple[str, Cluster], step: str, seen: str | None
) -> None:
    store = open_store()
    put(store, "a.md", "old leave")
    put(store, "b.md", "rain gauge")
    database, chroma = Postgres(servers[1].url()), ChromaDatabase(ChromaServer(servers[0]), 10)
    with SharedBases(chroma, database, EMBEDDER.fingerprint).turn("acme", "kb", ["a.md"]) as turn:
        old = turn.current("a.md")
        assert old is not None
        version = ""
        if step == "condemned":
            turn.condemn("a.md")
        else:
            version = turn.begin({"a.md": 1})["a.md"]
        if step in ("written", "switched"):
            [(_, row)] = turn.base.vectors.rows([f"{old.version}-0"]).values()
            turn.base.vectors.write([f"{version}-0"], EMBEDDER.encode(["new leave"]), ["new leave"], [row])
            turn.base.lexical.add({f"{version}-0": "new leave"}, version)
        if step == "switched":
            turn.switch([replace(old, version=version, digest="other")])
    database.close()  # and with it the lock: as if it had been killed here
    expected = sorted(filter(None, [seen, "rain gauge"]))
    assert texts(store) == expected
    assert servers[1].run_sql("SELECT count(*) FROM breakeven.leftovers") == [(1,)]
    again = open_store()
    assert_nothing_left(again, servers[1])
    assert texts(store) == texts(again) == expected
    assert [info.source for info in again.documents("acme", "kb")] == (["a.md"] if seen else []) + ["b.md"]


def test_another_embedder_is_refused(open_store: Callable[..., Store]) -> None:
    put(open_store(), "a.md", "leave")
    with pytest.raises(EmbedderMismatch, match="knowledge base 'kb'"):
        open_store(HashingEmbedder(EMBEDDER.dimensions, max_tokens=32))


def test_a_new_database_takes_in_what_chroma_holds(postgres: Cluster, tmp_path: Path) -> None:
    """So an embedded store moves to servers, and a lost database is made again."""
    postgres.empty()
    home = tmp_path / "chroma"
    alone = Store(home, EMBEDDER.fingerprint, EMBEDDER.dimensions)
    put(alone, "a.md", "old leave")
    put(alone, "a.md", "annual leave")
    put(alone, "b.md", "rain gauge")
    before = alone.documents("acme", "kb")
    alone.close()
    with chroma_server(home) as (url, _):
        for _ in range(2):
            postgres.empty()
            store = shared(tmp_path, url, postgres)
            assert store.documents("acme", "kb") == before
            assert texts(store) == ["annual leave", "rain gauge"]
            assert put(store, "a.md", "annual leave") == "unchanged"
            store.close()
        store = shared(tmp_path, url, postgres)
        assert put(store, "a.md", "parental leave") == "updated"
        assert_nothing_left(store, postgres)
        store.drop_knowledge("acme", "kb")
        store.close()
        store = shared(tmp_path, url, postgres)
        assert store.knowledge_bases("acme") == []  # not taken in again
        store.close()


def test_a_drop_that_was_interrupted_is_finished(open_store: OpenStore, servers: tuple[str, Cluster]) -> None:
    store = open_store()
    put(store, "a.md", "leave")
    servers[1].run_sql("UPDATE breakeven.bases SET dropping = true")  # killed before Chroma was asked
    assert store.knowledge_bases("acme") == []
    assert open_store().knowledge_bases("acme") == []
    assert put(store, "a.md", "leave") == "added"
    servers[1].run_sql("UPDATE breakeven.bases SET dropping = true")
    assert put(store, "a.md", "leave of another") == "added"  # or by whoever makes it again
    assert texts(open_store()) == ["leave of another"]


def test_a_catalogue_is_not_used_with_another_chroma(
    open_store: OpenStore, servers: tuple[str, Cluster], tmp_path: Path
) -> None:
    store = open_store()
    put(store, "a.md", "leave")
    with chroma_server(tmp_path / "other") as (url, _), pytest.raises(VectorsElsewhere, match=r"retrieval\.chroma_url"):
        shared(tmp_path, url, servers[1])
    empty_chroma(servers[0])
    with pytest.raises((VectorsElsewhere, UnknownKnowledge)):
        texts(store)
