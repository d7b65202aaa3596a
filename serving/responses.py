"""OpenAI's Responses over the engine's own: retrieve first, put the passages into the instructions, relay the answer.

The search shows as a `file_search_call` item before the engine's items, the passages as `file_citation` annotations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from retrieval import citations, prompt
from retrieval.passages import Retrieval
from serving import openai, response_items
from serving.completions import COST_HEADER, Completions, Runtime
from serving.engine.protocol import EngineResponse
from serving.errors import from_engine
from serving.models import Served
from serving.outcome import follow, read_answer, recorded
from serving.reply import Reply
from serving.response_items import Item, ResponseRequest
from serving.response_stream import ResponseRelay, as_stream, tokens_of
from serving.trace import Trace

PATH = "/v1/responses"


@dataclass(frozen=True, slots=True)
class _Found:
    """What was searched, and what it looks like in the answer."""

    retrieval: Retrieval | None = None
    call: tuple[Item, ...] = ()

    @property
    def passages(self) -> Sequence[Any]:
        return self.retrieval.passages if self.retrieval is not None else ()


class Responses:
    """Answers response requests."""

    def __init__(self, runtime: Runtime, completions: Completions) -> None:
        self._runtime, self._completions = runtime, completions

    async def answer(self, trace: Trace, body: bytes, reply: Reply) -> None:
        """Answer one request through `reply`. Raises GatewayError if nothing was sent yet."""
        with recorded(trace):
            request = response_items.parse(body, self._runtime.limits.of(trace.caller.role))
            trace.stream = request.stream
            await trace.admit(request.fields)
            async with self._completions.routing.admit(
                trace, request.model, request.fields.get("user"), request.question
            ) as served:
                trace.knowledge = request.extension.knowledge or served.settings.knowledge
                found = await self._find(trace, served, request)
                if found.retrieval is not None and not found.passages:
                    await self._abstain(trace, served, request, found, reply)
                    return
                judge = self._runtime.quality.judge(trace, served, request.fields)
                fields = self._compose(trace, served, request, found)
                judge(await self._generate(trace, request, fields, found, reply))

    async def _find(self, trace: Trace, served: Served, request: ResponseRequest) -> _Found:
        if request.search is None and trace.knowledge is None:
            return _Found()
        question = request.question
        retrieval = await self._completions.evidence.find(trace, served, question, request.extension, request.search)
        if request.search is None:
            return _Found(retrieval)
        results = None
        if request.results:
            search = self._runtime.stores.search
            results = await search.results(trace.caller, request.search.store_ids, retrieval.passages)
        return _Found(retrieval, (response_items.search_call(question, results),))

    def _compose(self, trace: Trace, served: Served, request: ResponseRequest, found: _Found) -> dict[str, Any]:
        defaults = dict(served.settings.defaults)
        for name in ("max_tokens", "max_completion_tokens"):
            if name in defaults:
                defaults["max_output_tokens"] = defaults.pop(name)
        fields = {**defaults, **request.fields, "model": served.engine_model}
        told = [each for each in (served.settings.system_prompt, fields.get("instructions")) if each]
        if told:
            fields["instructions"] = "\n\n".join(told)
        if found.passages:
            bare = response_items.text_length(fields)
            system = {"role": "system", "content": fields.get("instructions") or ""}
            composed = prompt.compose([system], found.passages, served.instructions)
            fields["instructions"] = composed[0]["content"]
            trace.retrieved_share = 1 - bare / max(1, response_items.text_length(fields))
        return fields

    async def _generate(
        self, trace: Trace, request: ResponseRequest, fields: dict[str, Any], found: _Found, reply: Reply
    ) -> Sequence[str]:
        """The answer's texts, none if it broke off."""
        await trace.enter_engine()
        async with self._runtime.engine.post(PATH, openai.encode(fields)) as response:
            if response.status != 200:
                raise from_engine(response.status, await response.read())
            if request.stream:
                return await self._stream(trace, request, response, found, reply)
            return await self._whole(trace, request, response, found, reply)

    async def _whole(
        self, trace: Trace, request: ResponseRequest, response: EngineResponse, found: _Found, reply: Reply
    ) -> Sequence[str]:
        _, answer = await read_answer(trace, response, "output")
        trace.leave_engine(tokens_of(answer.get("usage")))
        output = [response_items.annotate(item, found.passages) for item in answer["output"]]
        texts, trace.cut = response_items.texts(output), answer.get("status") == "incomplete"
        extension = self._extension(trace, found, texts)
        whole = {**answer, **request.shown, "output": [*found.call, *output], "breakeven": extension}
        trace.end("complete", 200)
        await reply.send(orjson.dumps(whole), _headers(trace, extension))
        return texts

    async def _stream(
        self, trace: Trace, request: ResponseRequest, response: EngineResponse, found: _Found, reply: Reply
    ) -> Sequence[str]:
        relay = ResponseRelay(found.call, found.passages, request.shown)
        await reply.start(trace.headers())
        if not await follow(trace, response, relay, reply):
            return ()
        await reply.write(relay.finish(self._extension(trace, found, relay.texts)))
        trace.cut = relay.cut
        trace.end("complete", 200)
        return relay.texts

    def _extension(self, trace: Trace, found: _Found, texts: Sequence[str]) -> dict[str, Any]:
        if found.retrieval is None:
            return self._completions.extension(trace, None)
        cited = citations.check(texts, prompt.annotations(found.passages))
        trace.cited, trace.unmatched_citations = len(cited.matched), len(cited.unmatched)
        return self._completions.extension(trace, found.retrieval, cited)

    async def _abstain(
        self, trace: Trace, served: Served, request: ResponseRequest, found: _Found, reply: Reply
    ) -> None:
        message = served.settings.abstain_message
        answer = response_items.whole(served.engine_model, message, found.call, request.shown)
        extension = {"abstained": True, **self._completions.extension(trace, found.retrieval)}
        answer["breakeven"] = extension
        headers = _headers(trace, extension)
        trace.end("abstained", 200)
        if not request.stream:
            await reply.send(orjson.dumps(answer), headers)
            return
        await reply.start(headers)
        await reply.write(as_stream(answer))


def _headers(trace: Trace, extension: Mapping[str, Any]) -> dict[str, str]:
    return {**trace.headers(), COST_HEADER: extension["cost"]["allocation_usd"]}
