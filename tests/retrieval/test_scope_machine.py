"""Twenty tenants at work at once, some of them curious: nobody ever gets a passage that is not his to see.

A state machine over the real store: documents come, change and go while callers ask, with filters and ids that try to
reach what belongs to others. A model of a few lines says what each caller may see.
"""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from retrieval.chunking import Chunker
from retrieval.errors import BadFilter, UnknownKnowledge
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Retrieval, Scope
from retrieval.pipeline import Retriever
from retrieval.postgres import Postgres
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaServer
from tests.servers import Cluster, empty_chroma

EMBEDDER = HashingEmbedder()
TENANTS = [f"tenant{number}" for number in range(20)]
KNOWLEDGE = ["kb", "kb2"]
SOURCES = ["a.md", "b.md", "c.md"]
GROUPS = ["everyone", "hr", "it", "board"]
PLACE = (st.sampled_from(TENANTS), st.sampled_from(KNOWLEDGE), st.sampled_from(SOURCES))
MOST_GROUPS = st.frozensets(st.sampled_from(GROUPS), min_size=1, max_size=2)
VOLLEY = 60  # questions of one step
LEAST_OPERATIONS = 10_000
LEAST_ON_SERVERS = 1_500
MOST_RUNS = 40

done: Counter[str] = Counter()
places: list[Callable[[], Servers]] = []  # where the machine's documents are; in its folder, if that is empty


def operations() -> int:
    return sum(done[kind] for kind in ("put", "delete", "ask", "pry"))


class Tenants(RuleBasedStateMachine):
    """`visible`: (tenant, knowledge, source) -> groups and the stamp in the text of the current version."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.visible: dict[tuple[str, str, str], tuple[frozenset[str], str]] = {}
        self.stamps = 0
        self.stolen: list[str] = []  # ids and sources that some answer showed
        self.open()

    def open(self) -> None:
        servers = places[0]() if places else None
        self.store = Store(self.folder, EMBEDDER.fingerprint, EMBEDDER.dimensions, servers=servers)
        self.retriever = Retriever(self.store, EMBEDDER, Chunker(EMBEDDER.tokenizer, EMBEDDER.max_tokens))

    @initialize()
    def everybody_has_something(self) -> None:
        for tenant in TENANTS:
            self._put(tenant, "kb", "a.md", frozenset({"everyone"}), 1)
            self._put(tenant, "kb", "b.md", frozenset({"hr"}), 1)

    @rule(
        changes=st.lists(st.tuples(*PLACE, st.none() | MOST_GROUPS, st.integers(1, 4)), min_size=1, max_size=5),
    )
    def change(self, changes: list[tuple[str, str, str, frozenset[str] | None, int]]) -> None:
        for tenant, knowledge, source, groups, paragraphs in changes:
            if groups is None:
                self._delete(tenant, knowledge, source)
            else:
                self._put(tenant, knowledge, source, groups, paragraphs)

    def _put(self, tenant: str, knowledge: str, source: str, groups: frozenset[str], paragraphs: int) -> None:
        done["put"] += 1
        self.stamps += 1
        stamp = f"stamp{self.stamps}x"
        text = "\n\n".join(f"# Part {part}\n\nThe secret of {tenant} is {stamp} {part}." for part in range(paragraphs))
        self.retriever.ingest(Scope(tenant, frozenset()), knowledge, source, text.encode(), groups)
        self.visible[tenant, knowledge, source] = (groups, stamp)

    def _delete(self, tenant: str, knowledge: str, source: str) -> None:
        done["delete"] += 1
        try:
            there = self.retriever.remove(Scope(tenant, frozenset()), knowledge, source)
        except UnknownKnowledge:
            there = False
        assert there == (self.visible.pop((tenant, knowledge, source), None) is not None)

    @rule(seed=st.integers(0, 2**32))
    def ask(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(VOLLEY if operations() < LEAST_OPERATIONS else 1):
            tenant, victim = chance.sample(TENANTS, 2)
            (self._ask if chance.random() < 0.6 else self._pry)(chance, tenant, victim)

    def _ask(self, chance: random.Random, tenant: str, victim: str) -> None:
        done["ask"] += 1
        groups = frozenset(chance.sample(GROUPS, chance.choice([0, 1, 2, 4])))
        question = chance.choice(["secret", f"the secret of {victim}", "stamp1x", *self.stolen[-3:]])
        self.search(Scope(tenant, groups), chance.choice(["kb", "kb", "kb2"]), question, chance.choice([1, 4, 100]))

    def _pry(self, chance: random.Random, tenant: str, victim: str) -> None:
        done["pry"] += 1
        loot = chance.choice(self.stolen) if self.stolen else "a.md"
        hostile: list[dict[str, object]] = [
            {"tenant": victim},
            {"source": loot},
            {"source": {"$in": [*SOURCES, loot]}},
            {"source": {"$ne": "x"}},
            {"$or": [{"group:hr": True}, {"group:hr": {"$ne": True}}]},
            {"$or": [{"source": {"$ne": "x"}}, {"tenant": victim}]},
            {"version": loot.rpartition("-")[0] or "x"},
            {"version": {"$ne": "x"}},
            {"id": loot},
            {"$not": {"source": "x"}},
            {"$and": []},
        ]
        names = [
            "kb",
            "kb",
            "kb",
            "kb2",
            f"{victim}/kb",
            f"../{victim}/kb",
            f"{victim}\0kb",
            f"kb-{loot}",
            loot,
            "",
            "*",
        ]
        groups = frozenset(chance.sample([*GROUPS, "everyone'", "*", "group:hr", ""], chance.choice([0, 2, 4, 8])))
        try:
            wish = chance.choice(hostile)
            self.search(Scope(tenant, groups), chance.choice(names), f"secret of {victim}", 4, wish)
        except BadFilter:
            done["refused filter"] += 1

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def lists_are_of_the_tenant_alone(self) -> None:
        for tenant in TENANTS[:: len(TENANTS) // 4]:
            for knowledge in self.store.knowledge_bases(tenant):
                listed = {info.source for info in self.store.documents(tenant, knowledge)}
                assert listed == {key[2] for key in self.visible if key[:2] == (tenant, knowledge)}

    def search(
        self, scope: Scope, knowledge: str, question: str, top_k: int, filter: dict[str, object] | None = None
    ) -> None:
        try:
            answer = self.retriever.search(scope, knowledge, question, top_k, -1.0, filter)
        except UnknownKnowledge:
            assert not any(key[:2] == (scope.tenant, knowledge) for key in self.visible)
            return
        own = {
            source: stamp
            for (tenant, name, source), (groups, stamp) in self.visible.items()
            if (tenant, name) == (scope.tenant, knowledge) and groups & scope.groups
        }
        self.check(answer, knowledge, own)
        if filter is None:
            assert bool(answer.passages) == bool(own)
        done["passages"] += len(answer.passages)

    def check(self, answer: Retrieval, knowledge: str, own: dict[str, str]) -> None:
        for passage in answer.passages:
            assert passage.knowledge == knowledge
            assert passage.source in own, "a foreign passage"
            assert own[passage.source] in passage.text, "another's text, or another version's"
            self.stolen.append(passage.id)
        if not own:
            assert answer.best_score is None  # not even how near something would have been

    def teardown(self) -> None:
        for tenant in TENANTS:
            for knowledge in self.store.knowledge_bases(tenant):
                self.store.drop_knowledge(tenant, knowledge)  # the next one starts on the same servers
        self.store.close()
        shutil.rmtree(self.folder)


def run_machine(least: int) -> None:
    done.clear()
    once = settings(
        max_examples=4,
        stateful_step_count=80,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking would take many minutes
        suppress_health_check=list(HealthCheck),
    )
    for _ in range(MOST_RUNS):
        run_state_machine_as_test(Tenants, settings=once)
        # What a run does is drawn: some runs of a few examples never delete anything.
        if operations() >= least and min(done["put"], done["delete"]) > 20:
            break
    assert operations() >= least and min(done["put"], done["delete"]) > 20, done
    assert done["passages"] >= least // 5  # they did find things: their own
    assert done["refused filter"] > 0


@pytest.mark.slow
def test_twenty_tenants_see_nothing_of_each_other() -> None:
    run_machine(LEAST_OPERATIONS)


@pytest.mark.slow
def test_nor_on_servers(chroma_url: str, postgres: Cluster) -> None:
    def afresh() -> Servers:
        return Servers(ChromaServer(chroma_url), Postgres(postgres.url()))

    empty_chroma(chroma_url)
    postgres.empty()
    places.append(afresh)
    try:
        run_machine(LEAST_ON_SERVERS)
    finally:
        places.clear()
