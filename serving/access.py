"""The command line's way to the documents: through the gateway that owns the store, or into it if none does."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any, Protocol

from retrieval import prompt
from retrieval.calibration import MAX_DRIFT, LabelledQuestion
from retrieval.calibrator import Calibrator, outdated
from retrieval.errors import UnknownKnowledge, UnreadableDocument
from retrieval.lock import OwnerLock
from retrieval.pipeline import Retriever, Scope
from retrieval.store import Store
from serving.auth import LOCAL_OPERATOR
from serving.errors import BodyTooLarge, NotFound, Unprocessable
from serving.gateway import build_retriever, open_calibrator, open_sandbox, open_store, owned_store
from serving.sections import Settings
from serving.settings import client_api_key

File = tuple[str, bytes]  # source, content
_TIMEOUT_S = 600


class RemoteError(Exception):
    """The gateway refused (`status`) or could not be reached (0); the message says what to do next."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


# The gateway is on this machine: a proxy for the world outside must not be asked for it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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


class CalibratedDocuments(Documents, Protocol):
    """The same, with the minimum scores of their knowledge bases."""

    def calibrate(
        self, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Mapping[str, Any]]:
        """Measures and sets the minimum score: `done` and `total` after each question, `calibration` in the last."""

    def warning(self, knowledge: str) -> str | None:
        """What is wrong with the calibration of a knowledge base, if something is."""


@contextmanager
def open_documents(settings: Settings) -> Iterator[CalibratedDocuments]:
    """Raises StoreLocked if another command holds the store, RemoteError if the gateway refuses."""
    owner = OwnerLock(settings.home / "store.lock").owner()
    if owner is not None and owner.url.startswith("http"):
        yield _Remote(owner.url, client_api_key())
        return
    with owned_store(settings, ""):
        store, embedder = open_store(settings)
        try:
            with open_sandbox(settings) as sandbox:
                retriever = build_retriever(settings, store, embedder, sandbox)
                yield _Local(retriever, store, open_calibrator(settings, retriever, store, embedder))
        finally:
            store.close()


class _Local:
    def __init__(self, retriever: Retriever, store: Store, calibrator: Calibrator) -> None:
        self._retriever, self._store, self._calibrator = retriever, store, calibrator
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
        return prompt.describe(self._retriever.search(self._scope, knowledge, query, top_k, -1.0).passages)

    def calibrate(
        self, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Mapping[str, Any]]:
        for step in self._calibrator.run(self._scope, knowledge, questions, precision):
            found = {} if step.calibration is None else {"calibration": step.calibration.summary()}
            yield {"done": step.done, "total": step.total, **found}

    def warning(self, knowledge: str) -> str | None:
        drift = self._calibrator.drift(self._scope.tenant, knowledge)
        return outdated(knowledge, drift) if drift is not None and drift > MAX_DRIFT else None


class _Remote:
    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        query = urllib.parse.urlencode([("group", group) for group in groups])
        done: list[str | UnreadableDocument] = []
        for source, data in files:
            path = f"{_quoted(knowledge)}/documents/{urllib.parse.quote(source)}?{query}"
            try:
                done.append(str(self._call("PUT", path, data, source)["status"]))
            except UnreadableDocument as error:
                done.append(error)
        return done

    def sources(self, knowledge: str) -> set[str]:
        try:
            listed = self._call("GET", f"{_quoted(knowledge)}/documents")["data"]
        except RemoteError as error:
            if error.status == NotFound.status:
                return set()
            raise
        return {document["source"] for document in listed}

    def remove(self, knowledge: str, source: str) -> None:
        try:
            self._call("DELETE", f"{_quoted(knowledge)}/documents/{urllib.parse.quote(source)}")
        except RemoteError as error:
            if error.status != NotFound.status:
                raise

    def search(self, knowledge: str, query: str, top_k: int) -> list[dict[str, Any]]:
        body = json.dumps({"query": query, "top_k": top_k}).encode()
        found: list[dict[str, Any]] = self._call("POST", f"{_quoted(knowledge)}/search", body)["data"]
        return found

    def calibrate(
        self, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Mapping[str, Any]]:
        rows = None if questions is None else [asdict(question) for question in questions]
        body = json.dumps({"questions": rows, "precision": precision}).encode()
        with self._open("POST", f"{_quoted(knowledge)}/calibration", body) as response:
            for line in response:
                if line.startswith(b"data: "):
                    told = json.loads(line.removeprefix(b"data: "))
                    if "error" in told:
                        raise RemoteError(told["error"]["message"])
                    yield told

    def warning(self, knowledge: str) -> str | None:
        try:
            found = self._call("GET", f"{_quoted(knowledge)}/calibration")
        except RemoteError as error:
            if error.status == NotFound.status:
                return None
            raise
        return None if found["warning"] is None else str(found["warning"])

    def _call(self, method: str, path: str, body: bytes | None = None, source: str = "") -> dict[str, Any]:
        with self._open(method, path, body, source) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    @contextmanager
    def _open(self, method: str, path: str, body: bytes | None, source: str = "") -> Iterator[IO[bytes]]:
        request = urllib.request.Request(
            f"{self._url}/v1/breakeven/knowledge/{path}", body, self._headers, method=method
        )
        try:
            with _DIRECT.open(request, timeout=_TIMEOUT_S) as response:
                yield response
        except urllib.error.HTTPError as error:
            if error.code in (Unprocessable.status, BodyTooLarge.status):
                raise UnreadableDocument(source, _words(error).removeprefix(f"cannot read {source}: ")) from None
            hint = "; set BREAKEVEN_API_KEY to an operator key" if error.code in (401, 403) else ""
            raise RemoteError(_words(error) + hint, error.code) from None
        except (urllib.error.URLError, TimeoutError) as error:
            raise RemoteError(f"the gateway at {self._url} cannot be reached: {error}") from None


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
