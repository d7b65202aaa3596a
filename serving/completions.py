"""One request from start to finish.

Parse -> resolve the served model, through its router if it has one -> retrieve, scoped to the caller -> abstain if
nothing is relevant -> compose the prompt -> generate, streamed or whole -> record. The caller is authenticated before
we get here, and whatever happens the request leaves exactly one record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from retrieval import citations, prompt
from retrieval.passages import Retrieval
from serving import file_search, openai
from serving.accounting.cost import Prices, cost_object, price_object
from serving.accounting.journal import Journal
from serving.accounting.meter import Meter
from serving.accounting.record import Outcome
from serving.admission.door import Door, Place
from serving.auth import Caller
from serving.budgets.budgets import Budgets
from serving.engine.protocol import Engine, EngineResponse
from serving.errors import BadRequest, from_engine
from serving.evidence import Evidence
from serving.file_search import FileSearch
from serving.knowledge import Knowledge
from serving.limits import Limits
from serving.models import Served
from serving.openai import CompletionRequest, Endpoint
from serving.outcome import follow, read_answer, recorded
from serving.rates.rates import Rates
from serving.relay import Relay, aborted, broke_off, tokens_of
from serving.reply import Reply
from serving.rollout.quality import Quality
from serving.rollout.traffic import Traffic
from serving.routing import Routing, described
from serving.stores.search import as_files
from serving.stores.service import Stores
from serving.trace import Trace

COST_HEADER = "x-breakeven-cost-usd"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every request needs; made once at start."""

    traffic: Traffic
    quality: Quality
    engine: Engine
    knowledge: Knowledge
    stores: Stores
    meter: Meter
    prices: Prices
    journal: Journal
    limits: Limits
    door: Door
    budgets: Budgets
    rates: Rates


class Completions:
    """Answers chat and text completion requests."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._price = price_object(runtime.prices.gpu)
        self.routing = Routing(runtime.traffic, runtime.engine)
        self.evidence = Evidence(runtime.knowledge, runtime.stores.search)

    def trace(self, caller: Caller, endpoint: str) -> Trace:
        """A trace for a request that has just arrived."""
        runtime = self._runtime
        place = Place(runtime.door, caller.tenant)
        watch = (runtime.meter, runtime.journal, runtime.prices, runtime.engine.simulated)
        return Trace(caller, endpoint, *watch, place, runtime.budgets, runtime.rates)

    async def answer(self, trace: Trace, endpoint: Endpoint, body: bytes, reply: Reply) -> None:
        """Answer one request through `reply`. Raises GatewayError if nothing was sent yet."""
        with recorded(trace):
            request = openai.parse_completion(body, endpoint, self._runtime.limits.of(trace.caller.role))
            tool, fields = file_search.take(request.fields, self._runtime.limits)
            if tool is not None:
                request = replace(request, fields=fields)
            await trace.admit(fields, request.sequences)
            question = prompt.query_of(fields["messages"]) if endpoint == "chat" else None
            async with self.routing.admit(trace, request.model, fields.get("user"), question) as served:
                self._check(trace, served, request)
                retrieval = await self._retrieve(trace, served, request, tool)
                if retrieval is not None and not retrieval.passages:
                    await self._abstain(trace, served, request, retrieval, reply)
                    return
                judge = self._runtime.quality.judge(trace, served, request.fields)
                fields = self._compose(trace, served, request, retrieval)
                judge(await self._generate(trace, request, fields, retrieval, reply))

    def _check(self, trace: Trace, served: Served, request: CompletionRequest) -> None:
        trace.knowledge = request.extension.knowledge or served.settings.knowledge
        trace.stream = request.stream
        if request.endpoint == "completions" and (trace.knowledge or served.settings.system_prompt):
            raise BadRequest(
                f"`{served.name}` answers with a system prompt or documents, which need messages: "
                "use POST /v1/chat/completions",
                param="model",
            )

    async def _retrieve(
        self, trace: Trace, served: Served, request: CompletionRequest, tool: FileSearch | None
    ) -> Retrieval | None:
        if trace.knowledge is None and tool is None:
            return None
        if request.endpoint == "completions":
            raise BadRequest("`file_search` needs messages: use POST /v1/chat/completions", param="tools")
        question = prompt.query_of(request.fields["messages"])
        return await self.evidence.find(trace, served, question, request.extension, tool)

    def _compose(
        self, trace: Trace, served: Served, request: CompletionRequest, retrieval: Retrieval | None
    ) -> dict[str, Any]:
        fields = {**served.settings.defaults, **request.fields, "model": served.engine_model}
        # The newer name wins in vLLM; a default must not override what the client asked for under the older one.
        if "max_completion_tokens" in request.fields and "max_tokens" not in request.fields:
            fields.pop("max_tokens", None)
        elif "max_tokens" in request.fields and "max_completion_tokens" not in request.fields:
            fields.pop("max_completion_tokens", None)
        if request.endpoint == "chat":
            messages = request.fields["messages"]
            if served.settings.system_prompt is not None:
                messages = openai.with_system(messages, served.settings.system_prompt)
            if retrieval is not None:
                bare = openai.text_length(messages)
                messages = prompt.compose(messages, retrieval.passages, served.instructions)
                trace.retrieved_share = 1 - bare / max(1, openai.text_length(messages))
            fields["messages"] = messages
        if request.stream:
            fields["stream_options"] = {**(request.fields.get("stream_options") or {}), "include_usage": True}
        return fields

    async def _generate(
        self,
        trace: Trace,
        request: CompletionRequest,
        fields: dict[str, Any],
        retrieval: Retrieval | None,
        reply: Reply,
    ) -> Sequence[str]:
        """The answer's texts: none if it broke off, or nobody wants to read them."""
        await trace.enter_engine()
        async with self._runtime.engine.post(openai.ENGINE_PATH[request.endpoint], openai.encode(fields)) as response:
            if response.status != 200:
                raise from_engine(response.status, await response.read())
            if request.stream:
                return await self._stream(trace, request, response, retrieval, reply)
            return await self._whole(trace, response, retrieval, reply)

    async def _whole(
        self, trace: Trace, response: EngineResponse, retrieval: Retrieval | None, reply: Reply
    ) -> Sequence[str]:
        body, answer = await read_answer(trace, response, "choices")
        cited, choices = None, answer["choices"]
        given_up = aborted(choices)
        trace.leave_engine(tokens_of(answer.get("usage")), completed=not given_up)
        if given_up:
            raise broke_off()
        texts: Sequence[str] = ()
        if trace.keep_text or retrieval is not None:
            trace.cut = any(choice.get("finish_reason") == "length" for choice in choices)
            texts = [(each.get("message") or {}).get("content") or each.get("text") or "" for each in choices]
        if retrieval is not None:
            supplied = as_files(prompt.annotations(retrieval.passages))
            cited = citations.check(texts, supplied)
            trace.cited, trace.unmatched_citations = len(cited.matched), len(cited.unmatched)
            for choice, text in zip(choices, texts, strict=True):
                choice["message"]["annotations"] = citations.mark(text, supplied)
            body = orjson.dumps(answer)
        extension = self.extension(trace, retrieval, cited)
        await self._send(trace, openai.extended(body, answer, extension), extension, reply)
        return texts

    async def _stream(
        self,
        trace: Trace,
        request: CompletionRequest,
        response: EngineResponse,
        retrieval: Retrieval | None,
        reply: Reply,
    ) -> Sequence[str]:
        supplied = as_files(prompt.annotations(retrieval.passages)) if retrieval is not None else ()
        relay = Relay(keep_usage=request.wants_usage, annotations=supplied, keep_text=trace.keep_text)
        await reply.start(trace.headers())
        if not await follow(trace, response, relay, reply):
            return ()
        cited = relay.cited()
        trace.cited, trace.unmatched_citations = len(cited.matched), len(cited.unmatched)
        await reply.write(relay.finish(self.extension(trace, retrieval, cited)))
        trace.cut = relay.cut
        trace.end("complete", 200)
        return relay.texts()

    async def _abstain(
        self, trace: Trace, served: Served, request: CompletionRequest, retrieval: Retrieval, reply: Reply
    ) -> None:
        answer = openai.chat_completion(served.engine_model, served.settings.abstain_message, request.n)
        extension = {"abstained": True, **self.extension(trace, retrieval)}
        if not request.stream:
            await self._send(trace, orjson.dumps({**answer, "breakeven": extension}), extension, reply, "abstained")
            return
        await reply.start({**trace.headers(), COST_HEADER: extension["cost"]["allocation_usd"]})
        events = openai.as_stream(answer, extension, usage=request.wants_usage)
        trace.end("abstained", 200)
        await reply.write(events)

    async def _send(
        self,
        trace: Trace,
        body: bytes,
        extension: dict[str, Any],
        reply: Reply,
        outcome: Outcome = "complete",
    ) -> None:
        headers = {**trace.headers(), COST_HEADER: extension["cost"]["allocation_usd"]}
        trace.end(outcome, 200)
        await reply.send(body, headers)

    def extension(
        self, trace: Trace, retrieval: Retrieval | None, cited: citations.Cited | None = None
    ) -> dict[str, Any]:
        """The `breakeven` object of an answer."""
        simulated = self._runtime.engine.simulated
        extension: dict[str, Any] = {
            "request_id": trace.id,
            "served_model": trace.model,
            "adapter": trace.adapter,
            "alias": trace.alias,
            "simulated": simulated,
            "tokens": trace.tokens.counts(),
            "cost": cost_object(trace.cost, trace.share, self._price, simulated=simulated),
        }
        if trace.routing is not None:
            extension["routing"] = described(trace.routing, self._runtime.prices, simulated=simulated)
        if retrieval is not None:
            extension["retrieval"] = {
                "knowledge": trace.knowledge,
                "best_score": retrieval.best_score,
                "min_score": trace.min_score,
                "min_score_from": trace.min_score_from,
                "embed_seconds": round(retrieval.embed_seconds, 6),
                "search_seconds": round(retrieval.search_seconds, 6),
                "rerank_seconds": None if retrieval.rerank_seconds is None else round(retrieval.rerank_seconds, 6),
                "passages": prompt.describe(retrieval.passages),
            }
            if cited is not None:
                extension["retrieval"]["citations"] = {"matched": cited.matched, "unmatched": cited.unmatched}
        return extension
