"""The command line's way to the documents: through the gateway that owns the store, or into it if none does."""

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from retrieval import prompt
from retrieval.errors import UnknownKnowledge, UnreadableDocument
from retrieval.lock import OwnerLock
from retrieval.passages import Scope
from retrieval.questions import LabelledQuestion
from serving.auth import LOCAL_OPERATOR
from serving.errors import BodyTooLarge, NotFound, Unprocessable
from serving.library import open_sandbox, owned_store
from serving.remote import RemoteError, RemoteGateway, quoted
from serving.sections import Settings
from serving.settings import client_api_key
from serving.shelf import Measures

if TYPE_CHECKING:  # they bring the libraries that documents need
    from retrieval.pipeline import Retriever
    from retrieval.store import Store

File = tuple[str, bytes]  # source, content


def gateway_url(settings: Settings) -> str:
    """OpenAI base URL of the gateway that runs on this state; the default address if none does."""
    owner = OwnerLock(settings.home / "store.lock").owner()
    if owner is not None and owner.url.startswith("http"):
        return f"{owner.url}/v1"
    return f"http://{settings.server.host}:{settings.server.port}/v1"


class Documents(Protocol):
    """The documents of one tenant."""

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        """Add or replace documents of different sources. Of each `added`, `updated`, `unchanged`, or why it cannot be
        read."""

    def sources(self, knowledge: str) -> set[str]:
        """Of all its documents; none if there is no such knowledge base."""

    def remove(self, knowledge: str, source: str) -> None:
        """Remove one document, if it is there."""

    def search(self, knowledge: str, query: str, top_k: int) -> list[dict[str, Any]]:
        """Passages as in `breakeven.retrieval.passages`, best first."""


class MeasuredDocuments(Documents, Protocol):
    """The same, with what is measured of their knowledge bases."""

    def calibrate(
        self, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Mapping[str, Any]]:
        """Measures and sets the minimum score: `done` and `total` after each question, `calibration` in the last."""

    def judge_reranking(self, knowledge: str, questions: Sequence[LabelledQuestion]) -> Iterator[Mapping[str, Any]]:
        """Measures whether the configured reranker helps: `done` and `total` of each question, `verdict` at last."""

    def warning(self, knowledge: str) -> str | None:
        """What is wrong with the calibration of a knowledge base, if something is."""


@contextmanager
def open_documents(settings: Settings) -> Iterator[MeasuredDocuments]:
    """Raises StoreLocked if another command holds the store, RemoteError if the gateway refuses."""
    owner = OwnerLock(settings.home / "store.lock").owner()
    if owner is not None and owner.url.startswith("http"):
        yield _Remote(RemoteGateway(owner.url, client_api_key()))
        return
    from serving.shelving import build_retriever, open_measures, open_store

    with owned_store(settings, ""):
        store, embedder = open_store(settings)
        try:
            with open_sandbox(settings) as sandbox:
                retriever = build_retriever(settings, store, embedder, sandbox)
                yield _Local(retriever, store, open_measures(settings, retriever, store, embedder))
        finally:
            store.close()


class _Local:
    def __init__(self, retriever: "Retriever", store: "Store", measures: Measures) -> None:
        self._retriever, self._store = retriever, store
        self._calibrator, self._reranking = measures.calibrator, measures.reranking
        self._scope = Scope(LOCAL_OPERATOR.tenant, LOCAL_OPERATOR.groups)

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        done = self._retriever.ingest_many(self._scope, knowledge, files, frozenset(groups))
        return [one if isinstance(one, UnreadableDocument) else one.status for one in done]

    def sources(self, knowledge: str) -> set[str]:
        try:
            return {info.source for info in self._store.documents(self._scope.tenant, knowledge)}
        except UnknownKnowledge:
            return set()

    def remove(self, knowledge: str, source: str) -> None:
        with suppress(UnknownKnowledge):
            self._retriever.remove(self._scope, knowledge, source)

    def search(self, knowledge: str, query: str, top_k: int) -> list[dict[str, Any]]:
        retriever = self._reranking.retriever(self._scope.tenant, knowledge)
        return prompt.describe(retriever.search(self._scope, knowledge, query, top_k, -1.0).passages)

    def calibrate(
        self, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Mapping[str, Any]]:
        for step in self._calibrator.run(self._scope, knowledge, questions, precision):
            found = {} if step.calibration is None else {"calibration": step.calibration.summary()}
            yield {"done": step.done, "total": step.total, **found}

    def judge_reranking(self, knowledge: str, questions: Sequence[LabelledQuestion]) -> Iterator[Mapping[str, Any]]:
        for step in self._reranking.run(self._scope, knowledge, questions):
            found = {} if step.verdict is None else {"verdict": step.verdict.summary()}
            yield {"done": step.done, "total": step.total, **found}

    def warning(self, knowledge: str) -> str | None:
        return self._calibrator.warning(self._scope.tenant, knowledge)


class _Remote:
    def __init__(self, gateway: RemoteGateway) -> None:
        self._gateway = gateway

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        query = urllib.parse.urlencode([("group", group) for group in groups])
        done: list[str | UnreadableDocument] = []
        for source, data in files:
            path = f"{_documents(knowledge)}/{urllib.parse.quote(source)}?{query}"
            try:
                done.append(str(self._gateway.call("PUT", path, data)["status"]))
            except RemoteError as error:
                if error.status not in (Unprocessable.status, BodyTooLarge.status):
                    raise
                done.append(UnreadableDocument(source, str(error).removeprefix(f"cannot read {source}: ")))
        return done

    def sources(self, knowledge: str) -> set[str]:
        try:
            listed = self._gateway.call("GET", _documents(knowledge))["data"]
        except RemoteError as error:
            if error.status == NotFound.status:
                return set()
            raise
        return {document["source"] for document in listed}

    def remove(self, knowledge: str, source: str) -> None:
        try:
            self._gateway.call("DELETE", f"{_documents(knowledge)}/{urllib.parse.quote(source)}")
        except RemoteError as error:
            if error.status != NotFound.status:
                raise

    def search(self, knowledge: str, query: str, top_k: int) -> list[dict[str, Any]]:
        body = json.dumps({"query": query, "top_k": top_k}).encode()
        found: list[dict[str, Any]] = self._gateway.call("POST", f"knowledge/{quoted(knowledge)}/search", body)["data"]
        return found

    def calibrate(
        self, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Mapping[str, Any]]:
        rows = None if questions is None else [asdict(question) for question in questions]
        yield from self._follow(f"{quoted(knowledge)}/calibration", {"questions": rows, "precision": precision})

    def judge_reranking(self, knowledge: str, questions: Sequence[LabelledQuestion]) -> Iterator[Mapping[str, Any]]:
        rows = [asdict(question) for question in questions]
        yield from self._follow(f"{quoted(knowledge)}/reranking", {"questions": rows})

    def _follow(self, path: str, body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The events of something that takes a while. Raises RemoteError, also for a failure at its end."""
        with self._gateway.open("POST", f"knowledge/{path}", json.dumps(body).encode()) as response:
            for line in response:
                if line.startswith(b"data: "):
                    told = json.loads(line.removeprefix(b"data: "))
                    if "error" in told:
                        raise RemoteError(told["error"]["message"])
                    yield told

    def warning(self, knowledge: str) -> str | None:
        try:
            found = self._gateway.call("GET", f"knowledge/{quoted(knowledge)}/calibration")
        except RemoteError as error:
            if error.status == NotFound.status:
                return None
            raise
        return None if found["warning"] is None else str(found["warning"])


def _documents(knowledge: str) -> str:
    return f"knowledge/{quoted(knowledge)}/documents"
