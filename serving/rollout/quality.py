"""Is the canary any good? Scores of answers go into a sequential test per served model; a bad canary is rolled back.

The tests read what is kept (feedback.py), in its order. So gateways that share it have the same tests, with everybody's
scores, and come to the same verdict.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from adapters.sequential import Evidence, SequentialTest
from serving.accounting.recent import RecentRequests
from serving.accounting.version_metrics import VersionMetrics
from serving.auth import Caller
from serving.errors import BadRequest, Conflict, NotFound, StoreUnavailable
from serving.models import Served
from serving.rollout.checks import Check, check_for, passes
from serving.rollout.feedback import FeedbackStore, Outcome, Read, Source
from serving.trace import Trace

logger = logging.getLogger("breakeven.canary")
_VOTES = {"up": 1.0, "down": 0.0}
_COMMENT = 2000
_LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
_QUEUE = 1000
_LOOK_S = 1.0  # how often to look for what other gateways were told


@dataclass(slots=True)
class Trial:
    """A canary of one served model: `since` is when it began, in seconds since 1970."""

    model: str
    prod: str
    canary: str
    since: float
    alpha: float
    share: float
    # Up to where the kept outcomes are in the tests.
    place: int = 0
    tests: dict[str, SequentialTest] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Votes and checks are tested apart, each with its half of alpha."""
        return len(get_args(Source)) / self.alpha

    def numbers(self, source: str, evidence: Evidence) -> dict[str, Any]:
        """For the audit log and for people."""
        return {
            "model": self.model,
            "source": source,
            "prod": {"version": self.prod, "n": evidence.prod_n, "mean": evidence.prod_mean},
            "canary": {"version": self.canary, "n": evidence.canary_n, "mean": evidence.canary_mean},
            "e_value": round(evidence.e_value, 6),
            "threshold": self.threshold,
            "alpha": self.alpha,
        }


# Takes what the test saw and returns at once; called once per canary of a served model.
OnWorse = Callable[[Trial, dict[str, Any]], None]


class Quality:
    """Belongs to the event loop; `run` is its one background task."""

    def __init__(
        self, store: FeedbackStore, recent: RecentRequests, metrics: VersionMetrics, on_worse: OnWorse
    ) -> None:
        self._store, self._recent, self._metrics, self._on_worse = store, recent, metrics, on_worse
        self._trials: dict[str, Trial] = {}
        self._lock = asyncio.Lock()
        self._queue: asyncio.Queue[tuple[Check, Sequence[str], Outcome]] = asyncio.Queue(_QUEUE)

    async def follow(self, trials: Sequence[Trial]) -> None:
        """Test these canaries and no others; what was scored since each began counts, also before a restart."""
        async with self._lock:
            for trial in trials:
                old = self._trials.get(trial.model)
                if old is not None and (old.prod, old.canary, old.since) == (trial.prod, trial.canary, trial.since):
                    trial.tests, trial.place = old.tests, old.place
            fresh = [trial for trial in trials if not trial.tests]
            self._trials = {trial.model: trial for trial in trials}
            for trial in fresh:
                trial.tests = {source: SequentialTest(trial.share) for source in get_args(Source)}
                read = await asyncio.to_thread(self._store.since, trial.model, trial.since, trial.prod, trial.canary)
                self._observe(read, [trial])

    def judge(self, trace: Trace, served: Served, fields: Mapping[str, Any]) -> Callable[[Sequence[str]], None]:
        """Called before a request with these fields is answered; call the result with the texts of the answer.

        They are checked later, and nobody waits for it.
        """
        if trace.adapter is None:
            return _unjudged
        check = check_for({**served.settings.defaults, **fields}, served.settings)
        trace.keep_text = check is not None
        limited = not _LIMITS.isdisjoint(fields)

        def judged(texts: Sequence[str]) -> None:
            # What a client has cut off says nothing about the version.
            if check is not None and texts and not (limited and trace.cut):
                self._submit(trace, check, texts)

        return judged

    def _submit(self, trace: Trace, check: Check, texts: Sequence[str]) -> None:
        now = time.time()
        outcome = Outcome(
            *(trace.id, "check", now, trace.started_at, trace.caller.tenant, trace.caller.key_id),
            *(trace.model, str(trace.adapter), math.nan),
        )
        # More than can be checked: a sample will do.
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait((check, texts, outcome))

    async def vote(self, caller: Caller, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A client's verdict on an answer of its own tenant. Raises BadRequest, NotFound, Conflict."""
        request_id, score, comment = _parse(fields)
        found = self._recent.remembered(request_id) or await asyncio.to_thread(self._recent.find, request_id)
        if found is None or found.tenant != caller.tenant:
            raise NotFound(f"there is no request {request_id[:100]!r} of yours", param="request_id")
        if found.outcome != "complete":
            raise BadRequest(f"request {request_id} was not answered by a model", param="request_id")
        times = (time.time(), found.started_at)
        who = (caller.tenant, caller.key_id)
        outcome = Outcome(request_id, "vote", *times, *who, found.model, found.adapter or "", score, comment)
        if not await self._take(outcome):
            raise Conflict(f"request {request_id} has its vote already", param="request_id", code="already_voted")
        names = {"request_id": request_id, "model": found.model, "adapter": found.adapter}
        return {"object": "feedback", **names, "score": score}

    async def run(self) -> None:
        """Check what was asked to be checked, until cancelled."""
        while True:
            check, texts, outcome = await self._queue.get()
            try:
                if (passed := await asyncio.to_thread(passes, check, texts)) is not None:
                    await self._take(replace(outcome, score=float(passed)))
            except Exception:
                # One answer that cannot be checked must not end the checking.
                logger.exception("%s could not be checked", outcome.request_id)
            finally:
                self._queue.task_done()

    async def listen(self) -> None:
        """Hear of what other gateways are told, until cancelled."""
        lost = False
        while self._store.shared:
            await asyncio.sleep(_LOOK_S)
            try:
                async with self._lock:
                    await self._catch_up()
            except StoreUnavailable as error:
                if not lost:
                    logger.error("votes of other gateways cannot be read: %s", error)
                lost = True
            else:
                lost = False

    async def checked(self) -> None:
        """Return when everything that was asked to be checked is."""
        await self._queue.join()

    def state(self) -> list[dict[str, Any]]:
        """Every running trial with its numbers."""
        return [
            trial.numbers(source, test.evidence)
            for trial in self._trials.values()
            for source, test in trial.tests.items()
        ]

    async def _take(self, outcome: Outcome) -> bool:
        # Not while `follow` reads the store: it would be counted twice.
        async with self._lock:
            if not await asyncio.to_thread(self._store.add, outcome):
                return False
            if outcome.adapter:
                self._metrics.scored(outcome.model, outcome.adapter, outcome.source, outcome.score)
            await self._catch_up()
            return True

    async def _catch_up(self) -> None:
        if self._trials:
            place = min(trial.place for trial in self._trials.values())
            read = await asyncio.to_thread(self._store.after, place)
            self._observe(read, tuple(self._trials.values()))

    def _observe(self, read: Read, trials: Sequence[Trial]) -> None:
        """`read` has everything of these trials from the least of their places on."""
        for place, outcome in read.outcomes:
            for trial in trials:
                if place > trial.place and trial.model == outcome.model and self._trials.get(trial.model) is trial:
                    self._test(trial, outcome)
        for trial in trials:
            trial.place = max(trial.place, read.place)

    def _test(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.adapter not in (trial.prod, trial.canary) or outcome.answered_at < trial.since:
            return
        test = trial.tests[outcome.source]
        test.observe(outcome.score, canary=outcome.adapter == trial.canary)
        evidence = test.evidence
        self._metrics.evidence(trial.model, outcome.source, evidence.e_value)
        if evidence.e_value >= trial.threshold and self._trials.pop(trial.model, None) is trial:
            numbers = trial.numbers(outcome.source, evidence)
            logger.warning("the canary %s of %s is worse and is rolled back: %s", trial.canary, trial.model, numbers)
            self._metrics.worse(trial.model, outcome.source)
            self._on_worse(trial, numbers)


def _unjudged(texts: Sequence[str]) -> None:
    """Of no adapter's version."""


def _parse(fields: Mapping[str, Any]) -> tuple[str, float, str | None]:
    request_id, vote, score = fields.get("request_id"), fields.get("vote"), fields.get("score")
    if not isinstance(request_id, str) or not request_id:
        raise BadRequest("`request_id` must be the id in an answer's `breakeven` object", param="request_id")
    if (vote is None) == (score is None):
        raise BadRequest("give either `vote` (`up` or `down`) or `score` (from 0 to 1)", param="vote")
    if vote is not None and vote not in ("up", "down"):
        raise BadRequest("`vote` must be `up` or `down`", param="vote")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1):
        raise BadRequest("`score` must be a number from 0 to 1", param="score")
    comment = fields.get("comment")
    if comment is not None and not (isinstance(comment, str) and len(comment) <= _COMMENT):
        raise BadRequest(f"`comment` must be a text of at most {_COMMENT} characters", param="comment")
    return request_id, _VOTES[vote] if vote is not None else float(score or 0), comment
