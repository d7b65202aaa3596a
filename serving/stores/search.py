"""Searches vector stores for a caller: several stores and several questions at once, merged by score."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from retrieval.passages import Passage, Retrieval
from serving import file_search
from serving.auth import Caller
from serving.errors import BadRequest, NotFound, NotOffered
from serving.file_search import FileSearch
from serving.knowledge import Knowledge
from serving.limits import Limits
from serving.stores import fields as check
from serving.stores.attachments import Attachments
from serving.stores.bases import Base, Bases
from serving.stores.paging import Wire
from serving.stores.sources import file_of
from serving.stores.vector_stores import Clock

MAX_QUERIES = 10
DEFAULT_RESULTS = 10  # OpenAI's own
_NOTHING = Retrieval((), None, 0.0, 0.0)


class Search:
    """What a caller may see is decided by tenant and groups of the key, in the knowledge base itself."""

    def __init__(self, bases: Bases, attachments: Attachments, knowledge: Knowledge, clock: Clock) -> None:
        self._bases, self._attachments, self._knowledge, self._clock = bases, attachments, knowledge, clock

    async def find(
        self, caller: Caller, wish: FileSearch, questions: Sequence[str], top_k: int, least: Callable[[str], float]
    ) -> tuple[list[Base], Retrieval]:
        """The best passages for any of the questions in any of the stores, one of each text.

        `least` gives the minimum score for a knowledge base.

        Raises NotFound for a store that is not the caller's, BadRequest for a bad filter or an expired store.
        """
        bases = [await self._bases.usable(caller, id, self._clock()) for id in wish.store_ids]
        minima = [(base, least(base.knowledge)) for base in bases]
        found = await asyncio.gather(
            *(
                self._one(caller, base, question, top_k, minimum, wish.filter)
                for base, minimum in minima
                for question in questions
            )
        )
        return bases, merged(found, top_k)

    async def search(self, caller: Caller, id: str, fields: Mapping[str, Any], limits: Limits) -> Wire:
        """The search endpoint of one store."""
        check.only(fields, "query", "filters", "max_num_results", "ranking_options", "rewrite_query")
        questions = _questions(fields.get("query"))
        if fields.get("rewrite_query") not in (None, False):
            raise NotOffered("queries are searched as they are written", param="rewrite_query")
        threshold = file_search.ranking(fields.get("ranking_options"), "ranking_options")
        top_k = file_search.results(fields.get("max_num_results"), limits) or min(DEFAULT_RESULTS, limits.max_top_k)
        wish = FileSearch((id,), filter=file_search.attribute_filter(fields.get("filters")))
        least = -1.0 if threshold is None else threshold
        _, found = await self.find(caller, wish, questions, top_k, lambda _: least)
        data = await self.results(caller, wish.store_ids, found.passages)
        return {
            "object": "vector_store.search_results.page",
            "search_query": questions,
            "data": [{**each, "content": [{"type": "text", "text": each.pop("text")}]} for each in data],
            "has_more": False,
            "next_page": None,
        }

    async def results(self, caller: Caller, store_ids: Sequence[str], passages: Sequence[Passage]) -> list[Wire]:
        """The passages with file, attributes and text, as tools show them. Scores from 0 to 1."""
        ids = [(await self._bases.find(caller, id, self._clock())).id for id in store_ids]
        files = [file_of(passage.source) for passage in passages]
        attached = await self._attachments.some(ids, {file_id for file_id, _ in files})
        return [
            {
                "file_id": file_id,
                "filename": filename,
                "score": round(min(1.0, max(0.0, passage.score)), 4),
                "attributes": attached[file_id].terms.attributes if file_id in attached else {},
                "text": passage.text,
            }
            for passage, (file_id, filename) in zip(passages, files, strict=True)
        ]

    async def _one(
        self,
        caller: Caller,
        base: Base,
        question: str,
        top_k: int,
        min_score: float,
        filter: Mapping[str, Any] | None,
    ) -> Retrieval:
        try:
            return await self._knowledge.find(caller, base.knowledge, question, top_k, min_score, filter)
        except NotFound:  # a store that nothing was ever attached to
            return _NOTHING


def merged(found: Sequence[Retrieval], top_k: int) -> Retrieval:
    """Several searches as one. A single one keeps its order, which may tell more than the scores."""
    if len(found) == 1:
        return found[0]
    by_text: dict[str, Passage] = {}
    for passage in sorted((each for one in found for each in one.passages), key=lambda each: -each.score):
        by_text.setdefault(passage.text, passage)
    scores = [one.best_score for one in found if one.best_score is not None]
    return replace(
        found[0],
        passages=tuple(by_text.values())[:top_k],
        best_score=max(scores, default=None),
        embed_seconds=max(one.embed_seconds for one in found),
        search_seconds=max(one.search_seconds for one in found),
        rerank_seconds=max((one.rerank_seconds for one in found if one.rerank_seconds is not None), default=None),
    )


def as_files(annotations: Sequence[Wire]) -> list[Wire]:
    """Citations of documents as citations of files, where the document is an attached file."""
    return [
        {**each, "file_citation": each["file_citation"] | _names(each["file_citation"]["file_id"])}
        for each in annotations
    ]


def _names(source: str) -> Wire:
    file_id, filename = file_of(source)
    return {"file_id": source if filename == source else file_id, "filename": filename}


def _questions(query: Any) -> list[str]:
    questions = [query] if isinstance(query, str) else query
    if not isinstance(questions, list) or not 1 <= len(questions) <= MAX_QUERIES:
        raise BadRequest(f"`query` must be a string or a list of 1 to {MAX_QUERIES} strings", param="query")
    if not all(isinstance(each, str) and each.strip() for each in questions):
        raise BadRequest("each `query` must be a string that is not empty", param="query")
    return questions
