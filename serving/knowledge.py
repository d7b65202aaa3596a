"""Knowledge bases for the HTTP edge: the retriever's blocking calls, off the event loop, with our errors."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import orjson

from retrieval import prompt
from retrieval.catalogue import DocumentInfo
from retrieval.errors import RetrievalError
from retrieval.filters import Scalar
from retrieval.passages import Ingested, Retrieval, Scope
from retrieval.questions import LabelledQuestion
from serving import openai
from serving.accounting.record import Tokens
from serving.auth import Caller
from serving.errors import (
    BadRequest,
    EngineUnavailable,
    GatewayError,
    InternalError,
    NotFound,
    UnknownModel,
    from_retrieval,
)
from serving.limits import Limits
from serving.reply import CLIENT_LEFT, Reply
from serving.sections import Retrieval as RetrievalSettings
from serving.shelf import Opening, Threads
from serving.trace import CLIENT_CLOSED, Trace

if TYPE_CHECKING:  # they bring the libraries that documents need
    from retrieval.calibrator import Step
    from retrieval.reranking import Step as RerankStep

T = TypeVar("T")
_TEXTS_AT_ONCE = 16
_HEALTHY_S = 2.0
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Minimum:
    """The minimum score in force for one request, and who set it."""

    score: float
    source: Literal["request", "served_model", "calibration", "setting"]


class Knowledge:
    """Ingestion, search and embeddings for callers. Every call is bounded by the caller's tenant and groups."""

    def __init__(self, shelf: Opening, embedding_model: str, threads: Threads, defaults: RetrievalSettings) -> None:
        self._shelf = shelf
        # The model name that the embeddings endpoint answers to.
        self.embedding_model = embedding_model
        self._executor, self._ingestion = threads.search, threads.ingestion
        self._defaults = defaults
        self._probe: asyncio.Task[bool] | None = None

    async def open(self) -> None:
        """Await it before `longest` and `minimum`. Raises GatewayError."""
        if not self._shelf.opened:
            await self._run(self._shelf)

    @property
    def longest(self) -> int:
        """The longest text that can be embedded, in tokens."""
        return self._shelf().embedder.max_tokens

    def bytes_of(self, passages: int) -> int:
        """What the vectors of so many passages take."""
        return passages * self._shelf().embedder.dimensions * _FLOAT_BYTES if passages else 0

    async def healthy(self) -> bool:
        """True if the store answers, and soon: its servers may hang."""
        if not self._shelf.opened:
            return True
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(asyncio.to_thread(self._shelf().store.healthy))
        done, _ = await asyncio.wait([self._probe], timeout=_HEALTHY_S)
        return bool(done) and self._probe.result()

    async def names(self, caller: Caller) -> list[str]:
        """Knowledge bases of the caller's tenant."""
        if not self._shelf.opened:
            return []
        return await self._run(lambda: self._shelf().store.knowledge_bases(caller.tenant))

    async def documents(self, caller: Caller, knowledge: str) -> list[DocumentInfo]:
        """Documents of one knowledge base. Raises NotFound."""
        return await self._run(lambda: self._shelf().store.documents(caller.tenant, knowledge))

    async def ingest(
        self,
        caller: Caller,
        knowledge: str,
        source: str,
        data: bytes,
        groups: frozenset[str],
        attributes: Mapping[str, Scalar] | None = None,
        chunk: tuple[int, int] | None = None,
    ) -> Ingested:
        """Add or replace one document, cut as usual or by `chunk` (tokens of a passage, of the overlap).

        Raises Unprocessable if it cannot be read.
        """

        def ingest() -> Ingested:
            usual = self._shelf().retriever
            retriever = usual if chunk is None else usual.cutting(*chunk)
            return retriever.ingest(_scope(caller), knowledge, source, data, groups, attributes)

        # Threads of its own: while a bomb is parsed, questions are answered.
        return await self._run(ingest, self._ingestion)

    async def drop(self, caller: Caller, knowledge: str) -> None:
        """Remove a knowledge base with all its documents. Raises NotFound."""
        await self._run(lambda: self._shelf().store.drop_knowledge(caller.tenant, knowledge))

    async def text(self, source: str, data: bytes) -> str:
        """What would be read of a document. Raises Unprocessable."""
        return await self._run(lambda: self._shelf().retriever.text(source, data), self._ingestion)

    async def remove(self, caller: Caller, knowledge: str, source: str) -> None:
        """Remove one document. Raises NotFound."""
        if not await self._run(lambda: self._shelf().retriever.remove(_scope(caller), knowledge, source)):
            raise NotFound(f"knowledge base {knowledge!r} has no document {source!r}")

    async def find(
        self,
        caller: Caller,
        knowledge: str,
        query: str,
        top_k: int,
        min_score: float,
        filter: Mapping[str, Any] | None,
    ) -> Retrieval:
        """Passages for a question. Raises NotFound, BadRequest."""

        def search() -> Retrieval:
            measures = self._shelf().measures
            measures.calibrator.drift(caller.tenant, knowledge)  # says so in the log once it is too much
            retriever = measures.reranking.retriever(caller.tenant, knowledge)
            return retriever.search(_scope(caller), knowledge, query, top_k, min_score, filter)

        return await self._run(search)

    def minimum(self, caller: Caller, knowledge: str, request: float | None, served: float | None) -> Minimum:
        """The first that is set: the request's, the served model's, the calibrated one, `retrieval.min_score`."""
        if request is not None:
            return Minimum(request, "request")
        if served is not None:
            return Minimum(served, "served_model")
        if calibration := self._shelf().measures.calibrator.current(caller.tenant, knowledge):
            return Minimum(calibration.min_score, "calibration")
        return Minimum(self._defaults.min_score, "setting")

    async def calibrate(
        self, caller: Caller, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> AsyncIterator["Step"]:
        """See Calibrator.run. Raises NotFound, BadRequest."""
        await self.open()
        steps = self._shelf().measures.calibrator.run(_scope(caller), knowledge, questions, precision)
        while (step := await self._run(lambda: next(steps, None))) is not None:
            yield step

    async def calibration(self, caller: Caller, knowledge: str) -> dict[str, Any]:
        """What the minimum score was measured on, and how much has changed since. Raises NotFound."""
        calibrator = self._shelf().measures.calibrator
        drift = await self._run(lambda: calibrator.drift(caller.tenant, knowledge))
        found = calibrator.current(caller.tenant, knowledge)
        if found is None or drift is None:
            raise NotFound(f"'{knowledge}' is not calibrated: `breakeven calibrate --knowledge {knowledge}`")
        warning = await self._run(lambda: calibrator.warning(caller.tenant, knowledge))
        return {**found.summary(), "drift": round(drift, 4), "warning": warning}

    async def judge_reranking(
        self, caller: Caller, knowledge: str, questions: Sequence[LabelledQuestion]
    ) -> AsyncIterator["RerankStep"]:
        """See Reranking.run. Raises NotFound, BadRequest."""
        await self.open()
        steps = self._shelf().measures.reranking.run(_scope(caller), knowledge, questions)
        while (step := await self._run(lambda: next(steps, None))) is not None:
            yield step

    async def reranking(self, caller: Caller, knowledge: str) -> dict[str, Any]:
        """What was measured of the configured reranker, and whether it is used. Raises NotFound."""
        await self.open()
        reranking = self._shelf().measures.reranking
        found = reranking.verdict(caller.tenant, knowledge)
        if found is None:
            raise NotFound(f"reranking was not measured on '{knowledge}': `{reranking.how(knowledge)}`")
        return {**found.summary(), "used": await self._run(lambda: reranking.used(caller.tenant, knowledge))}

    async def note(self) -> str | None:
        """What whoever starts the gateway should know."""
        if not self._shelf.opened:
            return None
        return await self._run(self._shelf().measures.reranking.note)

    async def search(self, caller: Caller, knowledge: str, fields: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """The search endpoint: `fields` as in the extension object, plus `query`."""
        if "knowledge" in fields:
            raise BadRequest("the path names the knowledge base; leave `knowledge` out", param="knowledge")
        wish = openai.parse_extension({name: value for name, value in fields.items() if name != "query"}, limits)
        top_k = wish.top_k if wish.top_k is not None else self._defaults.top_k
        min_score = wish.min_score if wish.min_score is not None else -1.0
        found = await self.find(caller, knowledge, fields["query"], top_k, min_score, wish.filter)
        return {"object": "list", "best_score": found.best_score, "data": prompt.describe(found.passages)}

    async def embed(self, trace: Trace, body: bytes, reply: Reply) -> None:
        """OpenAI's embeddings endpoint."""
        trace.model = trace.engine_model = self.embedding_model
        try:
            fields = openai.parse_json(body)
            await trace.afford(fields)
            answer = await self._embed(trace, fields)
        except GatewayError as error:
            error.request_id = trace.id
            trace.end("error", error.status, error.code)
            raise
        except asyncio.CancelledError as stop:
            left = CLIENT_LEFT in stop.args
            trace.end("cancelled" if left else "error", CLIENT_CLOSED if left else EngineUnavailable.status)
            raise
        except BaseException:
            trace.end("error", InternalError.status)
            raise
        trace.end("complete", 200)
        await reply.send(orjson.dumps(answer), trace.headers())

    async def _embed(self, trace: Trace, fields: Mapping[str, Any]) -> dict[str, Any]:
        model = fields.get("model")
        if model != self.embedding_model:
            raise UnknownModel(
                f"the embedding model is {self.embedding_model!r}, not {str(model)[:100]!r}", param="model"
            )
        await self.open()
        embedder = self._shelf().embedder
        texts = openai.embeddings_input(fields, self.embedding_model, embedder.dimensions)
        started = time.perf_counter()
        counts: list[int] = []
        vectors: list[Any] = []
        # A few at a time: questions get their turn in between, and a client that leaves stops the rest.
        with trace.on_host():
            for at in range(0, len(texts), _TEXTS_AT_ONCE):
                some = texts[at : at + _TEXTS_AT_ONCE]
                counts += await self._run(partial(embedder.count_tokens, some))
                vectors += list(await self._run(partial(embedder.encode, some)))
        trace.embedded(time.perf_counter() - started, Tokens(prompt=sum(counts)))
        return {
            "object": "list",
            "model": self.embedding_model,
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, fields.get("encoding_format"))}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": sum(counts), "total_tokens": sum(counts)},
        }

    async def _run(self, call: Callable[[], T], executor: Executor | None = None) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor or self._executor, call)
        except RetrievalError as error:
            raise from_retrieval(error) from error


def _scope(caller: Caller) -> Scope:
    return Scope(caller.tenant, caller.groups)


def _encoded(vector: Any, encoding: object) -> Any:
    # OpenAI's SDK asks for base64 of little-endian float32 unless told otherwise.
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.astype(float).tolist()
