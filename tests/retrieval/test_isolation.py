"""No passage of another tenant, another knowledge base or a group the caller is not in, whatever happened before."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.chunking import Chunker
from retrieval.errors import UnknownKnowledge
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.store import Store

EMBEDDER = HashingEmbedder()
TENANTS = ("acme", "acme2", "globex")
KNOWLEDGE = ("kb", "kb2")
GROUPS = ("everyone", "hr", "it", "hr2")
FILTERS = (
    None,
    {"source": {"$ne": "x"}},
    {"$or": [{"group:hr": True}, {"group:hr": {"$ne": True}}]},
    {"$or": [{"tenant": {"$ne": "x"}}, {"source": "d0.md"}]},
)


@dataclass(frozen=True)
class Put:
    tenant: str
    knowledge: str
    source: str
    groups: frozenset[str]
    words: int


@dataclass(frozen=True)
class Delete:
    tenant: str
    knowledge: str
    source: str


PLACES = (st.sampled_from(TENANTS), st.sampled_from(KNOWLEDGE), st.sampled_from(["d0.md", "d1.md", "d2.md"]))
SOME_GROUPS = st.frozensets(st.sampled_from(GROUPS), min_size=1)
STEPS = st.lists(
    st.builds(Put, *PLACES, SOME_GROUPS, st.integers(1, 90)) | st.builds(Delete, *PLACES), min_size=1, max_size=15
)
QUESTIONS = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from(KNOWLEDGE),
    st.frozensets(st.sampled_from(GROUPS)),
    st.sampled_from(FILTERS),
)


@given(steps=STEPS, questions=st.lists(QUESTIONS, min_size=5, max_size=5), reopen=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_caller_sees_all_of_his_own_and_nothing_else(
    steps: list[Put | Delete], questions: list[tuple[str, str, frozenset[str], dict[str, object] | None]], reopen: bool
) -> None:
    expected: dict[tuple[str, str, str], Put] = {}
    chunker = Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), EMBEDDER.fingerprint, EMBEDDER.dimensions)
        retriever = Retriever(store, EMBEDDER, chunker)
        for step in steps:
            _apply(retriever, step, expected)
        if reopen:
            store.close()
            store = Store(Path(folder), EMBEDDER.fingerprint, EMBEDDER.dimensions)
            retriever = Retriever(store, EMBEDDER, chunker)
        for tenant, knowledge, groups, filter in questions:
            try:
                answer = retriever.search(Scope(tenant, groups), knowledge, "owner", 100, -1.0, filter)
            except UnknownKnowledge:
                assert not any(key[:2] == (tenant, knowledge) for key in expected)
                continue
            own = {key[2] for key, put in expected.items() if key[:2] == (tenant, knowledge) and put.groups & groups}
            assert {passage.source for passage in answer.passages} == own
            for passage in answer.passages:
                put = expected[tenant, knowledge, passage.source]
                assert _owner(put) in passage.text  # this version of it, and of this tenant
        store.close()


def _owner(put: Put) -> str:
    return f"owner {put.tenant} {put.knowledge} {put.source} {'-'.join(sorted(put.groups))} {put.words}."


def _apply(retriever: Retriever, step: Put | Delete, expected: dict[tuple[str, str, str], Put]) -> None:
    scope = Scope(step.tenant, frozenset())  # writing needs no group; roles are the gateway's affair
    key = (step.tenant, step.knowledge, step.source)
    if isinstance(step, Put):
        text = "\n\n".join([_owner(step)] * (1 + step.words // 20))
        retriever.ingest(scope, step.knowledge, step.source, text.encode(), step.groups)
        expected[key] = step
    else:
        try:
            assert retriever.remove(scope, step.knowledge, step.source) == (key in expected)
        except UnknownKnowledge:
            assert key not in expected
        expected.pop(key, None)
