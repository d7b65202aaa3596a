"""Vector stores over HTTP, several tenants at once, all of whom know each other's ids: nothing foreign ever shows.

Everything that a tenant writes (texts, names, attributes, metadata) carries a mark that names him, so whatever a caller
gets, headers and errors included, is searched for marks and ids that are not his.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.serving.desk import Answer, Desk
from tests.serving.store_attempts import ATTEMPTS, FOR_USERS, filled

TENANTS = [f"tenant{number}" for number in range(5)]
GROUPS = ["everyone", "hr"]
VOLLEY = 15
LEAST_OPERATIONS = 2000
MARK = re.compile(r"t(\d)mark\d+x")
ID = re.compile(r"(?:file-|vs_|vsfb_)[0-9a-f]{24}")
UNKNOWN = {"file": "file-" + "0" * 24, "store": "vs_" + "0" * 24, "batch": "vsfb_" + "0" * 24}
CHANGES = ["attach", "batch", "retag", "detach", "file", "store", "create", "update"]
SHARED_NAME = "handbook"  # every tenant has a store of this name

done: Counter[str] = Counter()


@dataclass
class Tenant:
    """What one tenant has. `files`: id -> mark; `stores`: id -> file id -> groups; `batches`: id -> store. `named`: the
    store that goes by the name which everybody uses. `everything`: ids that are or were his."""

    number: int
    operator: str
    users: dict[str, str]  # group -> key
    files: dict[str, str] = field(default_factory=dict)
    stores: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    batches: dict[str, str] = field(default_factory=dict)
    named: str | None = None
    everything: set[str] = field(default_factory=set)


class Stores(RuleBasedStateMachine):
    """One gateway; `tenants` is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.desk, self.marks, self.volleys = Desk(), 0, 0
        self.tenants = [
            Tenant(
                number,
                self.desk.key(name, ["everyone"], "operator"),
                {group: self.desk.key(name, [group], "user") for group in GROUPS},
            )
            for number, name in enumerate(TENANTS)
        ]

    @initialize()
    def everybody_has_something(self) -> None:
        for tenant in self.tenants:
            store = self._create(tenant, SHARED_NAME)
            for group in GROUPS:
                self._attach(tenant, store, self._upload(tenant), frozenset({group}))
            self._attach_batch(tenant, store, [self._upload(tenant)])

    @rule(
        who=st.integers(0, len(TENANTS) - 1),
        group=st.sampled_from(GROUPS),
        change=st.sampled_from(CHANGES),
    )
    def change(self, who: int, group: str, change: str) -> None:
        done[change] += 1
        tenant = self.tenants[who]
        store = next(iter(tenant.stores), None) or self._create(tenant, SHARED_NAME)
        held = next(iter(tenant.stores[store]), None)
        if change == "create":
            self._create(tenant, SHARED_NAME)
        elif change == "update":
            self.own(tenant, "POST", f"/vector_stores/{store}", {"metadata": {"note": self._mark(tenant)}})
        elif change == "attach":
            self._attach(tenant, store, self._upload(tenant), frozenset({group}))
        elif change == "batch":
            self._attach_batch(tenant, store, [self._upload(tenant), self._upload(tenant)])
        elif change == "store" and len(tenant.stores) > 1:
            self.own(tenant, "DELETE", f"/vector_stores/{store}")
            del tenant.stores[store]
            tenant.named = None if tenant.named == store else tenant.named
            tenant.batches = {batch: of for batch, of in tenant.batches.items() if of != store}
        elif held is not None:
            self._change_held(tenant, store, held, change)

    def _change_held(self, tenant: Tenant, store: str, held: str, change: str) -> None:
        path = f"/vector_stores/{store}/files/{held}"
        if change == "retag":
            self.own(tenant, "POST", path, {"attributes": {"owner": self._mark(tenant)}})
        elif change == "detach":
            self.own(tenant, "DELETE", path)
            del tenant.stores[store][held]
        elif change == "file":
            self.own(tenant, "DELETE", f"/files/{held}")
            del tenant.files[held]
            for files in tenant.stores.values():
                files.pop(held, None)

    @rule(seed=st.integers(0, 2**32))
    def ask_around(self, seed: int) -> None:
        self.volleys += 1
        chance = random.Random(f"{seed} {self.volleys}")  # the same seed again is not the same volley
        for _ in range(VOLLEY):
            tenant, victim = chance.sample(self.tenants, 2)
            chance.choice([self._read, self._search, self._pry, self._pry, self._borrow])(chance, tenant, victim)

    def _read(self, chance: random.Random, tenant: Tenant, victim: Tenant) -> None:
        """His own lists hold what the model holds, and a cursor of another's is no cursor."""
        store = chance.choice(list(tenant.stores))
        listed = {
            "/files?limit=1000": set(tenant.files),
            "/vector_stores?limit=100": set(tenant.stores),
            f"/vector_stores/{store}/files?limit=100": set(tenant.stores[store]),
        }
        path, expected = chance.choice(list(listed.items()))
        answer = self.own(tenant, "GET", path)
        assert {each["id"] for each in answer.json["data"]} == expected
        cursors = [chance.choice(list(victim.files or [UNKNOWN["file"]])), UNKNOWN["file"]]
        answers = [self.ask(tenant, tenant.operator, "GET", f"{path}&after={id}") for id in cursors]
        assert [each.status for each in answers] == [400, 400]
        found = self.own(tenant, "GET", f"/vector_stores/{store}").json
        assert found["file_counts"]["total"] == len(tenant.stores[store])

    def _search(self, chance: random.Random, tenant: Tenant, victim: Tenant) -> None:
        """A user finds what his group may see, whatever he filters by."""
        store, group = chance.choice(list(tenant.stores)), chance.choice(GROUPS)
        # Not as the texts have it: what comes back because it was sent is not looked through.
        question = f"secret about {chance.choice([*victim.files.values(), 'all'])}"
        filters = chance.choice(
            [
                None,
                {"type": "ne", "key": "owner", "value": "nobody"},
                {"type": "eq", "key": "tenant", "value": TENANTS[victim.number]},
                {"type": "eq", "key": f"group:{GROUPS[0]}", "value": True},
                {"type": "or", "filters": [{"type": "ne", "key": "source", "value": ""}]},
            ]
        )
        seen = {tenant.files[file] for file, groups in tenant.stores[store].items() if group in groups}
        key = tenant.users[group]
        tool = {"type": "file_search", "vector_store_ids": [store], "ranking_options": {"score_threshold": 0}}
        tool |= {} if filters is None else {"filters": filters}
        match chance.choice(["search", "search", "chat", "responses"]):
            case "search":
                body: Any = {"query": question} | ({} if filters is None else {"filters": filters})
                place = SHARED_NAME if store == tenant.named else store
                answer = self.ask(tenant, key, "POST", f"/vector_stores/{place}/search", body, sent=[question])
            case "chat":
                messages = [{"role": "user", "content": "what is the secret"}]
                body = {"model": "plain", "messages": messages, "tools": [tool], "stream": chance.random() < 0.5}
                answer = self.ask(tenant, key, "POST", "/chat/completions", body)
            case _:
                body = {"model": "plain", "input": "what is the secret", "tools": [tool]}
                body |= {"stream": chance.random() < 0.5, "include": ["file_search_call.results"]}
                answer = self.ask(tenant, key, "POST", "/responses", body)
        assert answer.status == 200, answer.text
        texts = set(re.findall(r"secret of (t\d+mark\d+x) is", answer.text))
        assert texts <= seen, "a passage that this group may not see"
        done["found"] += len(texts)

    def _pry(self, chance: random.Random, tenant: Tenant, victim: Tenant) -> None:
        """Ids of another tenant's are answered as ids that never were."""
        ids = {
            "file": chance.choice(list(victim.files) or [UNKNOWN["file"]]),
            "store": chance.choice(list(victim.stores) or [UNKNOWN["store"]]),
            "batch": chance.choice(list(victim.batches) or [UNKNOWN["batch"]]),
        }
        own = {"own_store": chance.choice(list(tenant.stores)), "own_file": next(iter(tenant.files), UNKNOWN["file"])}
        method, path, body = chance.choice(ATTEMPTS)
        user = path in FOR_USERS and chance.random() < 0.5
        key = tenant.users["everyone"] if user else tenant.operator
        texts = []
        for chosen in (ids, UNKNOWN):
            named = {**chosen, **own}
            answer = self.ask(tenant, key, method, filled(path, named), filled(body, named), sent=list(chosen.values()))
            assert answer.status == 404, (method, path, body, answer.text)
            error = answer.json["error"]["message"]
            for id in chosen.values():
                error = error.replace(id, "ID")
            texts.append(error)
        assert texts[0] == texts[1], "the answer tells a foreign id from one that never was"

    def _borrow(self, chance: random.Random, tenant: Tenant, victim: Tenant) -> None:
        """A user manages nothing, not even his own tenant's."""
        paths = ["/files", "/vector_stores", *(f"/vector_stores/{store}" for store in (*tenant.stores, *victim.stores))]
        answer = self.ask(tenant, tenant.users["hr"], chance.choice(["GET", "DELETE"]), chance.choice(paths))
        assert answer.status in (403, 405)

    @invariant()
    def what_is_his_is_still_there(self) -> None:
        """Nobody's attempts changed anything."""
        tenant = self.tenants[self.marks % len(self.tenants)]
        for store, files in tenant.stores.items():
            assert self.own(tenant, "GET", f"/vector_stores/{store}").json["file_counts"]["completed"] == len(files)

    def _mark(self, tenant: Tenant) -> str:
        self.marks += 1
        return f"t{tenant.number}mark{self.marks}x"

    def _create(self, tenant: Tenant, name: str) -> str:
        body = {"name": name, "metadata": {"note": self._mark(tenant)}, "description": self._mark(tenant)}
        store = str(self.own(tenant, "POST", "/vector_stores", body, fresh=True).json["id"])
        tenant.stores[store] = {}
        tenant.named = tenant.named or store
        return store

    def _upload(self, tenant: Tenant) -> str:
        mark = self._mark(tenant)
        text = f"# Secrets\n\nThe secret of {mark} is kept.\n".encode()
        form = {"files": {"file": (f"{mark}.md", text)}, "data": {"purpose": "assistants"}}
        file = str(self.own(tenant, "POST", "/files", fresh=True, **form).json["id"])
        tenant.files[file] = mark
        return file

    def _attach(self, tenant: Tenant, store: str, file: str, groups: frozenset[str]) -> None:
        body = {"file_id": file, "attributes": {"owner": tenant.files[file]}, "breakeven": {"groups": sorted(groups)}}
        self.own(tenant, "POST", f"/vector_stores/{store}/files", body)
        tenant.stores[store][file] = groups
        self._ingested(tenant, store)

    def _attach_batch(self, tenant: Tenant, store: str, files: list[str]) -> None:
        made = self.own(tenant, "POST", f"/vector_stores/{store}/file_batches", {"file_ids": files}, fresh=True).json
        tenant.batches[made["id"]] = store
        tenant.stores[store] |= dict.fromkeys(files, frozenset({"everyone"}))
        self._ingested(tenant, store)

    def _ingested(self, tenant: Tenant, store: str) -> None:
        while self.own(tenant, "GET", f"/vector_stores/{store}").json["status"] == "in_progress":
            self.desk.wait(0.002)

    def own(
        self, tenant: Tenant, method: str, path: str, body: Any = None, *, fresh: bool = False, **form: Any
    ) -> Answer:
        """What an operator does with his own, which always works. `fresh`: the answer may name a new id."""
        answer = self.ask(tenant, tenant.operator, method, path, body, fresh=fresh, **form)
        assert answer.status == 200, (method, path, answer.text)
        return answer

    def ask(
        self,
        tenant: Tenant,
        key: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        sent: list[str] | None = None,
        fresh: bool = False,
        **form: Any,
    ) -> Answer:
        """One operation, with what came back looked through. `sent`: what may come back because it was sent."""
        done["operation"] += 1
        answer = self.desk.ask(key, method, path, body, **form)
        done[str(answer.status)] += 1
        text = answer.text
        for each in (*(sent or []), *re.findall(r"after=([^&]+)", path)):
            text = text.replace(each, "")
        assert {int(number) for number in MARK.findall(text)} <= {tenant.number}, "another tenant's words"
        if fresh:
            tenant.everything |= set(ID.findall(text))
        assert set(ID.findall(text)) <= tenant.everything, "another tenant's ids"
        return answer

    def teardown(self) -> None:
        self.desk.close()


@pytest.mark.slow
def test_nothing_of_another_tenant_ever_shows() -> None:
    done.clear()
    once = settings(
        max_examples=3,
        stateful_step_count=25,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking would take many minutes
        suppress_health_check=list(HealthCheck),
    )
    while done["operation"] < LEAST_OPERATIONS or not all(done[change] for change in CHANGES):
        run_state_machine_as_test(Stores, settings=once)
    assert done["404"] >= LEAST_OPERATIONS // 8
    assert done["found"] >= 50  # they did find things: their own
    assert min(done["400"], done["403"]) > 10
