"""kill -9 while documents come in: what was acknowledged is there, whole, once; what was deleted stays deleted."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from retrieval.chunking import Chunk, Chunker
from retrieval.documents import load
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Policy, Retriever
from retrieval.rows import NewDocument
from retrieval.search import Mode
from retrieval.selection import Limits
from retrieval.store import Store

EMBEDDER = HashingEmbedder()
EVERYONE = frozenset({"everyone"})
PARTS = 4

# Does the steps that come in on its input, and says each once it is done.
WRITE = """
import sys
from pathlib import Path
from retrieval.chunking import Chunker
from retrieval.hashing import HashingEmbedder
from retrieval.pipeline import Retriever
from retrieval.passages import Scope
from retrieval.store import Store

embedder = HashingEmbedder()
store = Store(Path(sys.argv[1]), embedder.fingerprint, embedder.dimensions, batch=1)  # many places to die in
retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
scope = Scope("acme", frozenset({"everyone"}))
for line in sys.stdin:
    kind, number, version = line.split()
    if kind == "put":
        text = "\\n\\n".join(f"doc {number} version {version} part {part} " + "word " * 40 for part in range(4))
        retriever.ingest(scope, "kb", f"d{number}.md", text.encode())
    else:
        retriever.remove(scope, "kb", f"d{number}.md")
    print(line, end="", flush=True)
"""

Step = tuple[str, int, int]


def steps(first: int) -> list[Step]:
    """Round after round every document is replaced by its next version, and in every third one is deleted."""
    found: list[Step] = []
    for version in range(first, first + 30):
        found += [("put", number, version) for number in range(5)]
        found += [("delete", version % 5, version)] if version % 3 == 0 else []
    return found


def state(done: list[Step], before: dict[int, int]) -> dict[int, int]:
    """Document -> version after these steps."""
    documents = dict(before)
    for kind, number, version in done:
        documents.pop(number, None)
        if kind == "put":
            documents[number] = version
    return documents


def work_until_killed(path: Path, todo: list[Step], chance: random.Random) -> int:
    """How many steps a process acknowledged before it was killed somewhere within a later one."""
    command = [sys.executable, "-c", WRITE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(f"{kind} {number} {version}\n" for kind, number, version in todo))
        process.stdin.flush()
        done = [process.stdout.readline() for _ in range(chance.randint(3, 20))]
        time.sleep(chance.uniform(0, 0.06))  # a step takes about that long
        process.kill()
        done += process.stdout.readlines()  # acknowledged before the kill arrived
    assert all(done)
    return len(done)


def parts_found(store: Store, mode: Mode) -> Counter[tuple[int, int]]:
    """(document, version) of every passage on disk, by one of the two indexes."""
    chunker = Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens)
    retriever = Retriever(store, EMBEDDER, chunker, Policy(mode, Limits(per_source=100, duplicate=2, neighbours=0)))
    passages = retriever.search(Scope("acme", EVERYONE), "kb", "doc version part", 100, -1.0).passages
    words = [passage.text.split() for passage in passages]
    return Counter((int(number), int(version)) for _, number, _, version, *_ in words)


@pytest.mark.parametrize("seed", range(2))
def test_nothing_acknowledged_is_lost(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store"
    now: dict[int, int] = {}
    chance = random.Random(seed)
    for life in range(5):  # each starts on what the kill before left
        todo = steps(1 + 100 * life)
        done = work_until_killed(path, todo, chance)
        assert done < len(todo)
        store = Store(path, EMBEDDER.fingerprint, EMBEDDER.dimensions)
        parts = parts_found(store, "dense")
        assert parts == parts_found(store, "lexical")
        assert set(parts.values()) <= {PARTS}  # whole
        expected = [state(todo[:done], now), state(todo[: done + 1], now)]  # the step it was killed in may be done
        assert sorted(parts) in [sorted(documents.items()) for documents in expected]
        assert store.count() == parts.total()
        now = dict(parts.keys())
        store.close()


def test_an_unfinished_version_is_removed_at_start(tmp_path: Path) -> None:
    before = two_passages(tmp_path)
    in_other_process(tmp_path, WRITE_LATER_VERSION.format(passages="[1]"))  # it died before it wrote the first one
    assert len(disk_ids(tmp_path)) == 3
    assert passages_after_start(tmp_path) == ["leave one", "leave two"]
    assert disk_ids(tmp_path) == before


def test_of_two_whole_versions_the_later_one_stays(tmp_path: Path) -> None:
    two_passages(tmp_path)
    in_other_process(tmp_path, WRITE_LATER_VERSION.format(passages="[0, 1]"))  # it died before it erased the old one
    assert len(disk_ids(tmp_path)) == 4
    assert passages_after_start(tmp_path) == ["later 0", "later 1"]
    assert disk_ids(tmp_path) == ["x-9-0", "x-9-1"]


WRITE_LATER_VERSION = """
for index in {passages}:
    row = c.get(where={{"index": index}}, include=["metadatas", "embeddings"])
    meta = {{**row["metadatas"][0], "version": "x-9", "sequence": 9, "digest": "other"}}
    meta["text"] = f"later {{index}}"
    c.upsert(ids=[f"x-9-{{index}}"], embeddings=row["embeddings"], metadatas=[meta])
"""


def two_passages(path: Path) -> list[str]:
    store = Store(path, EMBEDDER.fingerprint, EMBEDDER.dimensions)
    texts = ["leave one", "leave two"]
    chunks = [Chunk(text, 0, len(text), "") for text in texts]
    new = NewDocument(load("a.md", b"leave"), chunks, EMBEDDER.encode(texts), EVERYONE)
    store.replace_documents("acme", "kb", [new])
    store.close()
    return disk_ids(path)


def passages_after_start(path: Path) -> list[str]:
    store = Store(path, EMBEDDER.fingerprint, EMBEDDER.dimensions)
    found = store.query("acme", "kb", EMBEDDER.encode(["leave"])[0], 10, EVERYONE)
    store.close()
    return sorted(passage.text for passage in found)


def disk_ids(path: Path) -> list[str]:
    return sorted(in_other_process(path, "print(' '.join(c.get(include=[])['ids']))").split())


def in_other_process(path: Path, script: str) -> str:
    """Runs a script on the raw collection `c`: what the store itself would never leave behind, only its death."""
    opened = "import sys, chromadb\nc = chromadb.PersistentClient(sys.argv[1]).list_collections()[0]\n"
    command = [sys.executable, "-c", opened + script, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
