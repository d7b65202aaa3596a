"""kill -9 while documents come in: what was acknowledged is there, whole, once; what was deleted stays deleted."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from retrieval.chunking import Chunk, Chunker
from retrieval.documents import load
from retrieval.hashing import HashingEmbedder
from retrieval.pipeline import Retriever, Scope
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
from retrieval.pipeline import Retriever, Scope
from retrieval.store import Store

embedder = HashingEmbedder()
store = Store(Path(sys.argv[1]), embedder.fingerprint, embedder.dimensions)
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


def work_until_killed(path: Path, todo: list[Step], after: int) -> int:
    """How many steps a process acknowledged that was killed at its `after`-th, while it worked on the next ones."""
    command = [sys.executable, "-c", WRITE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(f"{kind} {number} {version}\n" for kind, number, version in todo))
        process.stdin.flush()
        done = [process.stdout.readline() for _ in range(after)]
        process.kill()
        done += process.stdout.readlines()  # acknowledged before the kill arrived
    assert all(done)
    return len(done)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store"
    now: dict[int, int] = {}
    for life in range(2):  # the second one starts on what the first kill left
        todo = steps(1 + 100 * life)
        done = work_until_killed(path, todo, random.Random(seed + 10 * life).randint(3, 25))
        assert done < len(todo)
        store = Store(path, EMBEDDER.fingerprint, EMBEDDER.dimensions)
        retriever = Retriever(store, EMBEDDER, Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))
        passages = retriever.search(Scope("acme", EVERYONE), "kb", "doc version part", 100, -1.0).passages
        words = [passage.text.split() for passage in passages]
        parts = Counter((int(number), int(version)) for _, number, _, version, *_ in words)
        assert set(parts.values()) <= {PARTS}  # whole
        expected = [state(todo[:done], now), state(todo[: done + 1], now)]  # the step it was killed in may be done
        assert sorted(parts) in [sorted(documents.items()) for documents in expected]
        assert store.count() == len(passages)
        now = dict(parts.keys())
        store.close()


def test_an_unfinished_version_is_removed_at_start(tmp_path: Path) -> None:
    store = Store(tmp_path, EMBEDDER.fingerprint, EMBEDDER.dimensions)
    texts = ["leave one", "leave two"]
    chunks = [Chunk(text, 0, len(text), "") for text in texts]
    store.replace_document("acme", "kb", load("a.md", b"leave"), chunks, EMBEDDER.encode(texts), EVERYONE)
    store.close()
    before = disk_ids(tmp_path)
    leave_unfinished(tmp_path)
    assert len(disk_ids(tmp_path)) == len(before) + 1
    store = Store(tmp_path, EMBEDDER.fingerprint, EMBEDDER.dimensions)
    found = store.query("acme", "kb", EMBEDDER.encode(["leave"])[0], 10, EVERYONE)
    assert sorted(passage.text for passage in found) == texts
    store.close()
    assert disk_ids(tmp_path) == before


def leave_unfinished(path: Path) -> None:
    """What is on disk when the owner dies after the second passage of a new version and before the first."""
    in_other_process(
        path,
        "row = c.get(limit=1, where={'index': 1}, include=['metadatas', 'embeddings'])\n"
        "meta = {**row['metadatas'][0], 'version': 'x-9', 'sequence': 9}\n"
        "c.upsert(ids=['x-9-1'], embeddings=row['embeddings'], documents=['leave three'], metadatas=[meta])",
    )


def disk_ids(path: Path) -> list[str]:
    return sorted(in_other_process(path, "print(' '.join(c.get(include=[])['ids']))").split())


def in_other_process(path: Path, script: str) -> str:
    opened = "import sys, chromadb\nc = chromadb.PersistentClient(sys.argv[1]).list_collections()[0]\n"
    command = [sys.executable, "-c", opened + script, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
