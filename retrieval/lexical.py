"""Which passages share words with a question: BM25 over stemmed words, beside the vectors.

Derived data. Chroma holds the truth; an index is one knowledge base's (so that word statistics tell nothing across
tenants), is written in the same step as Chroma and compared with it when the store opens. It only proposes passages:
who may see which is decided by the store, in one place for both kinds of search.
"""

import shutil
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import tantivy

from retrieval.errors import StoreFailed

_SCHEMA_VERSION = "1"  # names the folder: another schema or analysis starts an empty index, which is then filled again
_ANALYSIS = "stemmed"
_HEAP_BYTES = 32_000_000  # a budget, not an allocation
LONGEST_WORD = 64
MOST_WORDS = 128  # distinct ones of a question; beyond that it is pasted material


class LexicalIndex(Protocol):
    """Passages of one knowledge base by their words. Thread-safe. A failing disk raises StoreFailed."""

    @property
    def behind(self) -> bool:
        """Whether changes were lost, so that the store must compare the index with what it holds."""
        ...

    def add(self, passages: Mapping[str, str], version: str) -> None:
        """Texts by passage id, all of one version of a document. Found from now on."""
        ...

    def remove(self, versions: Collection[str]) -> None:
        """All passages of these versions; unknown ones are none."""
        ...

    def sizes(self) -> dict[str, int]:
        """How many passages of each version there are."""
        ...

    def search(self, question: str, limit: int, versions: Collection[str] | None = None) -> dict[str, float]:
        """The ids of at most `limit` passages (None: of all, or of these versions only) and their BM25 scores (> 0),
        best first. The scores are those of a search without restriction."""
        ...

    def score(self, question: str, ids: Collection[str]) -> dict[str, float]:
        """BM25 scores of these passages, by id; those that share no word with the question are left out."""
        ...

    def commit(self) -> None:
        """What was changed is on disk, and the index is not behind."""
        ...

    def close(self) -> None:
        """Commits and frees the files."""
        ...

    def drop(self) -> None:
        """Closes and erases the index."""
        ...


class TantivyIndex:
    """In a folder of its own. A change is committed by the next search, or by close(): a commit costs an fsync, so a
    folder of documents does not pay one each. A process that dies before loses what the store then adds again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _SCHEMA_VERSION
        self._folder.mkdir(parents=True, exist_ok=True)
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
        builder.add_text_field("version", stored=True, tokenizer_name="raw", index_option="basic")
        builder.add_text_field("text", tokenizer_name=_ANALYSIS, index_option="freq")
        self._index = tantivy.Index(builder.build(), path=str(self._folder))
        self._analyzer = _analyzer()
        self._index.register_tokenizer(_ANALYSIS, self._analyzer)
        self._lock = threading.Lock()
        self._writer: tantivy.IndexWriter | None = None
        self._dirty = False
        self.behind = False

    @classmethod
    def opened(cls, folder: Path) -> Self:
        """The index in a folder, or an empty one if what is there cannot be read."""
        try:
            index = cls(folder)
            index.sizes()
        except (ValueError, OSError, StoreFailed):
            shutil.rmtree(folder, ignore_errors=True)
            return cls(folder)
        return index

    def add(self, passages: Mapping[str, str], version: str) -> None:
        """See LexicalIndex."""
        with self._lock:
            writer = self._open_writer()
            for id, text in passages.items():
                writer.add_document(tantivy.Document(id=id, version=version, text=text))

    def remove(self, versions: Collection[str]) -> None:
        """See LexicalIndex."""
        with self._lock:
            for version in versions:
                self._open_writer().delete_documents_by_term("version", version)

    def sizes(self) -> dict[str, int]:
        """See LexicalIndex."""
        searcher = self._searcher()
        # Not an aggregation: that refuses more than 65,000 versions. The query leaves out what is removed.
        return dict(searcher.terms_with_prefix("version", "", tantivy.Query.all_query()))

    def search(self, question: str, limit: int, versions: Collection[str] | None = None) -> dict[str, float]:
        """See LexicalIndex."""
        query = self._query(question)
        if query is None or versions is not None:
            return self._among("version", versions or (), query, limit)
        return self._hits(query, limit)

    def score(self, question: str, ids: Collection[str]) -> dict[str, float]:
        """See LexicalIndex."""
        return self._among("id", ids, self._query(question), len(ids))

    def commit(self) -> None:
        """See LexicalIndex."""
        with self._lock:
            self.behind = False
            self._commit()

    def close(self) -> None:
        """See LexicalIndex."""
        with self._lock:
            self._commit()
            self._writer = None

    def drop(self) -> None:
        """See LexicalIndex."""
        with self._lock:
            self._writer, self._dirty = None, False
            shutil.rmtree(self._folder.parent)

    def _among(self, field: str, values: Collection[str], query: tantivy.Query | None, limit: int) -> dict[str, float]:
        if query is None or not values:
            return {}
        named = tantivy.Query.term_set_query(self._index.schema, field, list(values))
        must = tantivy.Occur.Must
        parts = [(must, tantivy.Query.const_score_query(named, 0.0)), (must, query)]
        return self._hits(tantivy.Query.boolean_query(parts), limit)

    def _hits(self, query: tantivy.Query, limit: int) -> dict[str, float]:
        searcher = self._searcher()
        hits = searcher.search(query, limit, count=False).hits
        return {str(searcher.doc(address)["id"][0]): float(score) for score, address in hits}

    def _query(self, question: str) -> tantivy.Query | None:
        """Any of the question's words, each once. Built from terms: a question is never parsed as a query language."""
        words = list(dict.fromkeys(self._analyzer.analyze(question)))[-MOST_WORDS:]
        if not words:
            return None
        should = tantivy.Occur.Should
        return tantivy.Query.boolean_query(
            [
                (should, tantivy.Query.term_query(self._index.schema, "text", word, index_option="freq"))
                for word in words
            ]
        )

    def _searcher(self) -> tantivy.Searcher:
        with self._lock:
            self._commit()
            return self._index.searcher()

    def _open_writer(self) -> tantivy.IndexWriter:
        self._dirty = True
        if self._writer is None:
            self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        return self._writer

    def _commit(self) -> None:
        if not self._dirty or self._writer is None:
            return
        try:
            self._writer.commit()
            self._index.reload()
        except ValueError as error:
            self._writer, self.behind = None, True
            raise StoreFailed(str(error)) from error
        finally:
            self._dirty = False


def lexical_text(title: str, heading: str, text: str) -> str:
    """What is indexed of a passage: the same words as are embedded, from what the store keeps of it."""
    return "\n".join(part for part in (title, heading, text) if part)


def _analyzer() -> tantivy.TextAnalyzer:
    """Words in lower case without accents; English stems, no English stop words. Other languages keep their words."""
    filters: Sequence[tantivy.Filter] = (
        tantivy.Filter.remove_long(LONGEST_WORD),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stopword("english"),
        tantivy.Filter.stemmer("english"),
    )
    return _built(tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()), filters)


def _built(builder: tantivy.TextAnalyzerBuilder, filters: Iterable[tantivy.Filter]) -> tantivy.TextAnalyzer:
    for one in filters:
        builder = builder.filter(one)
    return builder.build()
