"""Follows one request while it runs and turns it into its record when it ends, exactly once."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from uuid import uuid4

from retrieval.passages import Retrieval
from serving.accounting.cost import Prices, priced
from serving.accounting.journal import Journal
from serving.accounting.meter import Meter
from serving.accounting.record import (
    Outcome,
    RequestCost,
    RequestRecord,
    Routed,
    Share,
    Sink,
    Times,
    Tokens,
    Unfinished,
)
from serving.admission.door import Place
from serving.auth import Caller
from serving.budgets.budgets import WARNING_HEADER, Budgets
from serving.rates.rates import Rates

# What a record says where the request never got as far as a served model.
UNRESOLVED = "-"
CLIENT_CLOSED = 499

# Ids are counted, not drawn: that is cheaper, and rows in the ledger's index stay in order. The process is drawn.
_PROCESS = uuid4().hex[:14]
_COUNT = count(1)
_NO_TOKENS, _NO_SHARE = Tokens(), Share()


def _next_id() -> str:
    return f"req-{_PROCESS}{next(_COUNT):010x}"


@dataclass(slots=True)
class Trace:
    """Mutable while the request runs; after its `end` it goes into the journal. `sinks` are told of its end at once."""

    caller: Caller
    endpoint: str
    meter: Meter
    journal: Journal
    prices: Prices
    simulated: bool
    place: Place
    budgets: Budgets
    rates: Rates
    sinks: Sequence[Sink] = ()
    id: str = field(default_factory=_next_id)
    model: str = UNRESOLVED
    engine_model: str = UNRESOLVED
    adapter: str | None = None
    alias: str | None = None
    routing: Routed | None = None
    keep_text: bool = False  # somebody wants to judge the answer
    cut: bool = False  # the answer reached its limit of tokens
    knowledge: str | None = None
    stream: bool = False
    passages: int = 0
    best_score: float | None = None
    min_score: float | None = None
    min_score_from: str | None = None
    retrieved_share: float = 0.0
    cited: int = 0
    unmatched_citations: int = 0
    tokens: Tokens = _NO_TOKENS
    share: Share = _NO_SHARE
    received: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)
    _warning: str | None = None
    _rate: Mapping[str, str] = field(default_factory=dict)
    _cost: RequestCost | None = None
    _embed_s: float | None = None
    _search_s: float | None = None
    _rerank_s: float | None = None
    _sent: float | None = None
    _ticket: float | None = None
    _host: float | None = None
    _prefill_s: float | None = None
    _ended: float | None = None
    _how: tuple[Outcome, int, str | None] = ("error", 0, None)
    _apportioned: bool = False
    _first: float | None = None
    _last: float | None = None

    async def admit(self, fields: Mapping[str, Any], sequences: int = 1) -> None:
        """Before anything is spent on it. Raises RequestTooLarge, RateLimited, Overloaded, QuotaExceeded."""
        if self.caller.rates is not None:
            await self._limit(fields, sequences)
        self.place.apply(sequences)
        await self._hold()

    async def afford(self, fields: Mapping[str, Any]) -> None:
        """The same for what needs no place in the engine, and gets no answer from it."""
        if self.caller.rates is not None:
            await self._limit(fields, 0)
        await self._hold()

    async def _limit(self, fields: Mapping[str, Any], sequences: int) -> None:
        admitted = await self.rates.take(self.caller, fields, sequences)
        self._rate = admitted.headers
        if admitted.hold is not None:
            self.sinks = (*self.sinks, admitted.hold)

    async def _hold(self) -> None:
        self._warning = await self.budgets.hold(self.caller, self.id)

    def headers(self) -> dict[str, str]:
        """Of every answer."""
        found = {"x-request-id": self.id, **self._rate}
        if self._warning is not None:
            found[WARNING_HEADER] = self._warning
        return found

    def searched(self, found: Retrieval) -> None:
        """The documents were searched."""
        self._embed_s, self._search_s, self._rerank_s = found.embed_seconds, found.search_seconds, found.rerank_seconds
        self.passages, self.best_score = len(found.passages), found.best_score

    def embedded(self, embed_s: float, tokens: Tokens) -> None:
        """Texts were embedded; no accelerator time of the engine was used."""
        self._embed_s = embed_s
        self.tokens = tokens

    @contextmanager
    def on_host(self) -> Iterator[None]:
        """The machine embeds, searches or reranks for this request while inside."""
        self.meter.running_requests[self.id] = self
        self._host = self.meter.begin_host()
        try:
            yield
        finally:
            self.share += Share(host_s=self.meter.end_host(self._host))
            self._host = self._cost = None

    async def enter_engine(self) -> None:
        """Return when the engine can have the request; it has it from then on. Raises Overloaded."""
        await self.place.enter()
        self._sent = time.monotonic()
        self.meter.running_requests[self.id] = self
        self._ticket = self.meter.begin()

    def saw_bytes(self) -> None:
        """Something of the answer arrived."""
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last
            if self.stream and self._ticket is not None:
                self._prefill_s = self.meter.used(self._ticket)

    def leave_engine(self, tokens: Tokens, *, completed: bool = True) -> None:
        """The engine is done with it; `tokens` is what it reported. Safe to call again.

        A routed request is in the engine twice, and both times count.
        """
        if self._ticket is None:
            return
        share = self.meter.end(self._ticket, completed=completed)
        self._ticket, self._cost = None, None
        if self.retrieved_share:
            tokens = replace(tokens, retrieved=round(tokens.prompt * self.retrieved_share))
        # A sum only where there is something to add to: it is a new object each time.
        self.share = share if self.share is _NO_SHARE else self.share + share
        self.tokens = tokens if self.tokens is _NO_TOKENS else self.tokens + tokens

    @property
    def cost(self) -> RequestCost:
        """Of what it has taken so far."""
        if self._cost is None:
            # Embedded texts are no chat tokens: what a hosted chat model charges says nothing about them.
            hosted = Tokens() if self.endpoint == "embeddings" else self.tokens
            self._cost = priced(self.share, hosted, self.prices)
        return self._cost

    def end(self, outcome: Outcome, status: int, error_code: str | None = None, tokens: Tokens | None = None) -> None:
        """The request has ended; a second call does nothing."""
        if self._ended is not None:
            return
        self._how = (outcome, status, error_code)
        self.meter.running_requests.pop(self.id, None)
        complete = outcome == "complete"
        self.leave_engine(tokens or _NO_TOKENS, completed=complete)
        self.place.leave(completed=complete)
        self._apportioned = self._apportion() if complete and not self.stream else False
        self._ended = time.monotonic()
        for sink in self.sinks:
            sink.record(self.record())
        self.journal.enter(self)

    def record(self) -> RequestRecord:
        """Of the request, once it has ended."""
        outcome, status, error_code = self._how
        stages = (self._embed_s, self._search_s, self._rerank_s)
        times = Times(self.received, self._sent, self._first, self._last, self._ended or 0.0, *stages)
        return RequestRecord(
            id=self.id,
            started_at=self.started_at,
            endpoint=self.endpoint,
            model=self.model,
            engine_model=self.engine_model,
            adapter=self.adapter,
            knowledge=self.knowledge,
            tenant=self.caller.tenant,
            key_id=self.caller.key_id,
            stream=self.stream,
            outcome=outcome,
            status=status,
            error_code=error_code,
            passages=self.passages,
            best_score=self.best_score,
            tokens=self.tokens,
            times=times,
            share=self.share,
            cost=self.cost,
            simulated=self.simulated,
            cited=self.cited,
            unmatched_citations=self.unmatched_citations,
            routing=self.routing,
            prefill_s=self._prefill_s,
            prefill_apportioned=self._apportioned,
        )

    def _apportion(self) -> bool:
        """Divide a whole answer into prefill and decode, as far as the engine has measured anything."""
        rates, busy_s, tokens = self.meter.rates, self.share.busy_s, self.tokens
        if self.routing is not None:
            busy_s, tokens = busy_s - self.routing.share.busy_s, tokens - self.routing.tokens
        if rates is None or busy_s <= 0:
            return False
        self._prefill_s = rates.prefill_of(busy_s, tokens)
        return self._prefill_s is not None

    def unfinished(self) -> Unfinished:
        """What to remember of it should the process be killed now."""
        busy_s = self.share.busy_s + (0.0 if self._ticket is None else self.meter.used(self._ticket))
        host_s = self.share.host_s + (0.0 if self._host is None else self.meter.used_host(self._host))
        who = (self.caller.tenant, self.caller.key_id)
        what = (self.endpoint, self.model, self.engine_model, self.adapter)
        return Unfinished(self.id, self.started_at, *what, *who, busy_s, host_s)
