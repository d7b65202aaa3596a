"""Intent routing: a small classifier picks the served model that answers, so that each question meets the adapter and
the documents made for it.

One request to the engine, constrained to the labels; the probability of the label's tokens under that constraint is
its confidence. Below the router's minimum, or if the classifier fails, the fallback answers: a router must not cost
anyone an answer. What the classification took is part of the request's tokens, time and cost.
"""

import math
from typing import Any

import orjson

from serving import openai
from serving.accounting.cost import Prices, money, request_cost
from serving.accounting.record import Routed, RouteReason, Tokens
from serving.engine.protocol import Engine
from serving.errors import BadRequest, GatewayError, UpstreamFailed, from_engine
from serving.models import Served
from serving.relay import tokens_of
from serving.rollout.traffic import Traffic
from serving.sections import Router
from serving.trace import Trace


class Routing:
    """Admits requests, through a router where the served model has one."""

    def __init__(self, traffic: Traffic, engine: Engine) -> None:
        self._traffic, self._engine = traffic, engine

    def admit(self, trace: Trace, model: str, user: Any, question: str | None) -> "_Admission":
        """As Traffic.admit; `question` is what is classified, None where a request has none.

        The choice is made once: what the router and the chosen model meant then holds to the end of the request.
        Raises UnknownModel, AdapterUnavailable, BadRequest.
        """
        return _Admission(self, self._traffic, trace, (model, user, question))

    async def choose(self, trace: Trace, router: Router, user: Any, question: str) -> str:
        """The served model that the router picks, also told to the trace."""
        name = trace.model
        label: str | None = None
        confidence: float | None = None
        before = (trace.model, trace.engine_model, trace.adapter, trace.alias)
        try:
            async with self._traffic.admit(trace, router.model, user) as classifier:
                label, confidence = await self._classify(trace, classifier, router, question)
        except GatewayError:
            # The fallback answers; whether it can is its own request's matter. Whom the door has turned away has no
            # place for that, either.
            if trace.place.turned_away:
                raise
        finally:
            trace.model, trace.engine_model, trace.adapter, trace.alias = before
        model, reason = router.fallback, _why(router, label, confidence)
        if reason == "label":
            model = router.labels[str(label)]
        trace.routing = Routed(name, label, confidence, model, reason, trace.tokens, trace.share)
        return model

    async def _classify(self, trace: Trace, classifier: Served, router: Router, question: str) -> tuple[str, float]:
        """A label and its probability. Raises GatewayError."""
        path, body = openai.ENGINE_PATH["chat"], openai.encode(_request(classifier, router, question))
        tokens, whole = Tokens(), False
        await trace.enter_engine()
        try:
            async with self._engine.post(path, body) as response:
                said = await response.read()
            if response.status != 200:
                raise from_engine(response.status, said)
            label, confidence, tokens = _read(said)
            whole = True
        finally:
            trace.leave_engine(tokens, completed=whole)
        if label not in router.labels:
            raise UpstreamFailed(f"the classifier answered {label[:50]!r}, which is no label")
        return label, confidence


class _Admission:
    """What a request holds in place, from the choice of its served model to its end."""

    __slots__ = ("_asked", "_held", "_routing", "_trace", "_traffic")

    def __init__(self, routing: Routing, traffic: Traffic, trace: Trace, asked: tuple[str, Any, str | None]) -> None:
        self._routing, self._traffic, self._trace, self._asked = routing, traffic, trace, asked
        self._held: list[Served] = []

    async def __aenter__(self) -> Served:
        model, user, question = self._asked
        try:
            served = await self._enter(model, user)
            if (router := served.settings.router) is None:
                return served
            if not question:
                raise BadRequest(
                    f"`{served.name}` routes by the last user message: use POST /v1/chat/completions or "
                    "/v1/responses with one",
                    param="model",
                )
            return await self._enter(await self._routing.choose(self._trace, router, user, question), user)
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def _enter(self, model: str, user: Any) -> Served:
        served = await self._traffic.enter(self._trace, model, user)
        self._held.append(served)
        return served

    def _leave(self) -> None:
        for served in reversed(self._held):
            self._traffic.leave(served)


def _why(router: Router, label: str | None, confidence: float | None) -> RouteReason:
    if label is None or confidence is None:
        return "failed"
    return "label" if confidence >= router.min_confidence else "unsure"


def described(routed: Routed, prices: Prices, *, simulated: bool) -> dict[str, Any]:
    """The response's `breakeven.routing` object; its cost is a part of the response's."""
    cost = request_cost(routed.share, prices.gpu)
    return {
        "router": routed.router,
        "label": routed.label,
        "confidence": None if routed.confidence is None else round(routed.confidence, 6),
        "served_model": routed.model,
        "reason": routed.reason,
        "tokens": {"prompt": routed.tokens.prompt, "completion": routed.tokens.completion},
        "cost": {
            "allocation_usd": money(cost.allocation_usd),
            "usage_usd": money(cost.usage_usd),
            "basis": "simulated" if simulated else "measured",
        },
    }


def _request(classifier: Served, router: Router, question: str) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    if classifier.settings.system_prompt is not None:
        messages = openai.with_system(messages, classifier.settings.system_prompt)
    return {
        "model": classifier.engine_model,
        "messages": messages,
        "temperature": 0,
        # A token is at least a byte: the longest label always fits.
        "max_tokens": max(len(label.encode()) for label in router.labels) + 1,
        "structured_outputs": {"choice": list(router.labels)},
        "logprobs": True,
    }


def _read(body: bytes) -> tuple[str, float, Tokens]:
    try:
        answer = orjson.loads(body)
        choice = answer["choices"][0]
        confidence = math.exp(sum(token["logprob"] for token in choice["logprobs"]["content"]))
        return str(choice["message"]["content"]), confidence, tokens_of(answer.get("usage"))
    except (orjson.JSONDecodeError, LookupError, TypeError):
        raise UpstreamFailed("the classifier's answer was not whole") from None
