"""The vectors: Chroma, embedded or a server, one collection per knowledge base. The only module that knows Chroma.

Measured on 1.5.9: a search that filters by metadata reads the metadata of every passage (81 ms at 30,000 passages,
against 2 ms without), and so does fetching by id with a filter. So nothing here filters while it searches: the search
above knows from the catalogue what to keep.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import StoreFailed, StoreUnreachable, UnknownKnowledge
from retrieval.filters import Scalar, Where

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

# Chroma's own values are 16 and 100. With those the nearest hundred of 5,131 SciFact passages are found to .969, with
# ours to .996; of 20,000 made-up passages, which lie less favourably, to .87 and .966. A width of 200 takes half as
# long again as one of 100; 400 would find .99 and take three times as long.
_NEIGHBOURS, _SEARCH_WIDTH = 32, 200
_TEXT = "text"  # as metadata: what Chroma calls a document it also indexes by trigrams, which takes twice the disk
_SERVER, _SETTING = "the Chroma server", "retrieval.chroma_url"
_CONNECT_S = 5.0
_REQUEST_BYTES = 20_000_000  # half of what a Chroma server takes by default
_ROW_BYTES = 8_000  # allowed for a passage's text and metadata


@dataclass(frozen=True, slots=True)
class ChromaServer:
    """`url` like http://host:8000. `api_key` is sent as bearer token and as Chroma's own header."""

    url: str
    api_key: str | None = None
    timeout_s: float = 60.0


class ChromaDatabase:
    """The collections in a folder of ours, or on a server. `batch` is how many passages are written at once: as many as
    Chroma takes, if less. Raises StoreFailed, StoreUnreachable."""

    def __init__(self, place: Path | ChromaServer, batch: int) -> None:
        with mapped_errors():
            self._client = _embedded(place) if isinstance(place, Path) else _connected(place)
            self._batch = min(batch, self._client.get_max_batch_size())

    def close(self) -> None:
        """Nothing needs it to be safe on disk; it frees the files for another opening."""
        self._client.close()  # type: ignore[attr-defined]  # the client has it, its declared interface does not

    def collections(self) -> dict[str, Mapping[str, Any]]:
        """Every collection with what was stored about it."""
        return {found.name: found.metadata or {} for found in self._client.list_collections()}

    def create(self, name: str, metadata: Mapping[str, Scalar], *, reuse: bool = False) -> "ChromaVectors":
        """A new collection for vectors compared by cosine; with `reuse` the one of this name, if there is one."""
        index: Any = {"hnsw": {"space": "cosine", "max_neighbors": _NEIGHBOURS, "ef_search": _SEARCH_WIDTH}}
        made = self._client.create_collection(
            name, metadata=dict(metadata), configuration=index, embedding_function=None, get_or_create=reuse
        )
        return ChromaVectors(made, self._batch)

    def open(self, name: str) -> "ChromaVectors":
        """A collection that exists. One that was made with another width is searched with ours from now on."""
        found = self._client.get_collection(name, embedding_function=None)
        index = found.configuration.get("hnsw") or {}
        if index.get("ef_search") != _SEARCH_WIDTH:
            found.modify(configuration={"hnsw": {"ef_search": _SEARCH_WIDTH}})
        return ChromaVectors(found, self._batch)

    def drop(self, name: str, *, missing_ok: bool = False) -> None:
        """With all that is in it."""
        from chromadb.errors import NotFoundError

        with suppress(*([NotFoundError] if missing_ok else [])):
            self._client.delete_collection(name)

    def healthy(self) -> bool:
        """Whether the database answers."""
        try:
            self._client.count_collections()
        except Exception:  # a probe answers no, whatever is wrong
            return False
        return True


class ChromaVectors:
    """One collection; see search.Vectors."""

    def __init__(self, collection: "Collection", batch: int) -> None:
        self._collection, self._batch = collection, batch

    @property
    def id(self) -> str:
        """Of the collection; one that was dropped and made again has another."""
        return str(self._collection.id)

    def nearest(self, embedding: NDArray[np.float32], limit: int) -> dict[str, float]:
        """See Vectors."""
        found = self._collection.query(
            query_embeddings=embedding.reshape(1, -1), n_results=limit, include=["distances"]
        )
        distances = (found["distances"] or [[]])[0]
        return {id: min(1.0, max(-1.0, 1.0 - far)) for id, far in zip(found["ids"][0], distances, strict=True)}

    def embeddings(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """See Vectors."""
        if not ids:
            return [], np.zeros((0, 0), dtype=np.float32)
        found = self._collection.get(ids=list(ids), include=["embeddings"])
        return found["ids"], np.asarray(found["embeddings"], dtype=np.float32)

    def matching(self, where: Where | None) -> set[str]:
        """See Vectors."""
        return set(self._collection.get(where=where, include=[])["ids"])

    def count(self) -> int:
        """See Vectors."""
        return self._collection.count()

    def metadata(self, where: Where) -> list[Mapping[str, Any]]:
        """See Vectors."""
        ids, found = sorted(self.matching(where)), list[Mapping[str, Any]]()
        for at in range(0, len(ids), self._batch):  # all at once are more than SQLite takes
            some = self._collection.get(ids=ids[at : at + self._batch], include=["metadatas"])
            found += some["metadatas"] or []
        return found

    def rows(self, ids: Sequence[str]) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """See Vectors."""
        rows: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for at in range(0, len(ids), self._batch):
            found = self._collection.get(ids=list(ids[at : at + self._batch]), include=["documents", "metadatas"])
            columns: list[Any] = [found["ids"], found["documents"] or [], found["metadatas"] or []]
            rows |= {id: (row.get(_TEXT, text), row) for id, text, row in zip(*columns, strict=True)}
        return rows

    def write(
        self,
        ids: Sequence[str],
        embeddings: NDArray[np.float32],
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, Scalar]],
    ) -> None:
        """See Vectors."""
        step = max(1, min(self._batch, _REQUEST_BYTES // (_ROW_BYTES + 6 * embeddings.shape[1])))
        for at in range(0, len(ids), step):
            part = slice(at, at + step)
            self._collection.upsert(
                ids=list(ids[part]),
                embeddings=embeddings[part],
                metadatas=[{**row, _TEXT: text} for row, text in zip(metadata[part], texts[part], strict=True)],
            )

    def delete(self, ids: Sequence[str]) -> None:
        """See Vectors."""
        ordered = sorted(ids, key=lambda id: not id.endswith("-0"))
        for at in range(0, len(ordered), self._batch):
            self._collection.delete(ids=ordered[at : at + self._batch])


@contextmanager
def mapped_errors(knowledge: str = "") -> Iterator[None]:
    """Chroma's errors as ours. Raises UnknownKnowledge, StoreFailed, StoreUnreachable."""
    from chromadb.errors import ChromaError, NotFoundError

    try:
        yield
    except NotFoundError as error:  # dropped by another thread or process meanwhile
        raise UnknownKnowledge(knowledge) from error
    except ChromaError as error:
        raise StoreFailed(str(error)) from error
    except httpx.HTTPError as error:
        raise StoreUnreachable(_SERVER, _SETTING, str(error) or type(error).__name__) from error
    except Exception as error:
        if type(error) is not Exception:  # what Chroma's client makes of an answer that it does not know, such as a 502
            raise
        raise StoreFailed(f"Chroma answered {str(error)[:200]!r}") from error


def _embedded(path: Path) -> "ClientAPI":
    import chromadb
    from chromadb.config import Settings

    path.mkdir(parents=True, exist_ok=True)
    return chromadb.PersistentClient(str(path), settings=Settings(anonymized_telemetry=False))


def _connected(server: ChromaServer) -> "ClientAPI":
    """Asks for a sign of life first: Chroma's own client would wait for ever, and hides why it cannot connect."""
    import chromadb
    from chromadb.config import Settings

    key = server.api_key
    headers = {} if key is None else {"authorization": f"Bearer {key}", "x-chroma-token": key}
    timeout = httpx.Timeout(server.timeout_s, connect=min(_CONNECT_S, server.timeout_s))
    try:
        answer = httpx.get(f"{server.url.rstrip('/')}/api/v2/auth/identity", headers=headers, timeout=timeout)
        answer.raise_for_status()
        options = Settings(anonymized_telemetry=False)
        client = chromadb.HttpClient(server.url.rstrip("/"), headers=headers, settings=options)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise StoreUnreachable(f"{_SERVER} at {server.url}", _SETTING, _reason(error)) from error
    client._server._session.timeout = timeout  # type: ignore[attr-defined]  # its client has no setting for it
    return client


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        hint = ": is retrieval.chroma_api_key right?" if status in (401, 403) else ""
        return f"it answered {status}{hint}"
    return str(error) or type(error).__name__
