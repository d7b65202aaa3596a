"""Everything retrieval refuses, and what the reader can do about it.

One tree under RetrievalError, so that the gateway maps the whole package with one table. The messages are shown to
users as they are: each ends with the next step and none holds text from a document.
"""


class RetrievalError(Exception):
    """Base of every error this package raises on purpose."""


class UnreadableDocument(RetrievalError):
    """One document could not be read; others of the same ingestion are not affected."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot read {source}: {reason}")
        self.source = source
        self.reason = reason


class StoreLocked(RetrievalError):
    """Another process owns the store. Chroma is not process-safe, so a second owner would read stale results."""

    def __init__(self, owner_pid: int, owner_url: str) -> None:
        at = f" at {owner_url}" if owner_url else ""
        super().__init__(
            f"the store is in use by process {owner_pid}{at}; send the command to that gateway, "
            "stop it first, or set another BREAKEVEN_HOME"
        )
        self.owner_pid = owner_pid
        self.owner_url = owner_url


class StoreFailed(RetrievalError):
    """The database under the store failed: nothing was acknowledged, and what was acknowledged before is kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the document store failed ({reason}); check free disk space and permissions, then try again")
        self.reason = reason


class StoreUnreachable(RetrievalError):
    """A server that holds documents does not answer: nothing was acknowledged. `setting` has its URL."""

    def __init__(self, server: str, setting: str, reason: str) -> None:
        super().__init__(f"{server} cannot be reached ({reason}); check that it runs and that {setting} is right")
        self.reason = reason


class VectorsElsewhere(RetrievalError):
    """The catalogue in the database belongs to another Chroma: searching this one would find nothing, silently."""

    def __init__(self, knowledge: str) -> None:
        super().__init__(
            f"the database knows '{knowledge}', but its vectors are not in this Chroma; set retrieval.chroma_url to "
            "the server that it was filled through, or use another database and ingest again"
        )
        self.knowledge = knowledge


class EmbedderMismatch(RetrievalError):
    """A knowledge base was embedded by another model: its vectors cannot be compared with new ones."""

    def __init__(self, knowledge: str, stored: str, current: str) -> None:
        super().__init__(
            f"knowledge base '{knowledge}' was built with another embedder (fingerprint {stored[:12]}, now "
            f"{current[:12]}); configure the embedder it was built with, or move the store away and ingest again"
        )
        self.knowledge = knowledge


class TextTooLong(RetrievalError):
    """A text does not fit the embedder; embedding its beginning only would silently lose the rest."""

    def __init__(self, index: int, tokens: int, limit: int) -> None:
        super().__init__(f"text {index} has {tokens} tokens, the embedder takes {limit}; split it into shorter texts")
        self.index = index
        self.tokens = tokens
        self.limit = limit


class UnknownKnowledge(RetrievalError):
    """The tenant has no such knowledge base (whether another tenant has one is not told)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no knowledge base '{name}'; ingest documents into it first, or check the name")
        self.name = name


class BadFilter(RetrievalError):
    """A search's filter or limits are outside what is allowed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; filter on 'source' or on document attributes, like " + '{"year": {"$gte": 2024}}')
        self.reason = reason


class BadName(RetrievalError):
    """A tenant, knowledge base, group or attribute has a name or value that cannot be stored."""

    def __init__(self, kind: str, name: object, rule: str) -> None:
        super().__init__(f"{kind} {name!r} is not usable: {rule}")
        self.kind = kind


class CalibrationFailed(RetrievalError):
    """The questions cannot set a minimum score; the message says what is wrong with them."""


class RerankerUnusable(RetrievalError):
    """The configured reranker cannot be loaded, or is no cross-encoder."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"retrieval.reranker {model!r} cannot be used: {reason}; name the folder of a cross-encoder "
            "(sentence-transformers, or model.onnx with tokenizer.json) or its id on the hub"
        )


class RerankingFailed(RetrievalError):
    """Whether reranking is better cannot be measured; the message says what is missing."""
