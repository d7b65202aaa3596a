"""Where passages come from: the stores of a `file_search` tool, or the knowledge base of the request or the model."""

from retrieval.passages import Retrieval
from serving.errors import BadRequest
from serving.file_search import FileSearch
from serving.knowledge import Knowledge, Minimum
from serving.models import Served
from serving.openai import Extension
from serving.stores.search import Search
from serving.trace import Trace


class Evidence:
    """Searches for an answer, within the caller's scope, and tells the trace what came of it."""

    def __init__(self, knowledge: Knowledge, search: Search) -> None:
        self._knowledge, self._search = knowledge, search

    async def find(
        self, trace: Trace, served: Served, question: str, wish: Extension, tool: FileSearch | None
    ) -> Retrieval:
        """Passages for `question`, from the tool's stores or else from `trace.knowledge`.

        What the tool says counts before the request's extension, and that before the served model. Each store has its
        own calibrated minimum. Raises BadRequest, NotFound.
        """
        if not question.strip():
            raise BadRequest("there is no user message to search the documents for", param="messages")
        await self._knowledge.open()
        asked = wish.min_score if tool is None or tool.min_score is None else tool.min_score
        top_k = (tool.top_k if tool else None) or wish.top_k or served.top_k
        minima: list[Minimum] = []

        def least(knowledge: str) -> float:
            minima.append(self._knowledge.minimum(trace.caller, knowledge, asked, served.min_score))
            return minima[-1].score

        with trace.on_host():
            if tool is not None:
                over = tool.over(wish.filter)
                bases, retrieval = await self._search.find(trace.caller, over, [question], top_k, least)
                trace.knowledge = "+".join(base.knowledge for base in bases)
            else:
                name = str(trace.knowledge)
                retrieval = await self._knowledge.find(trace.caller, name, question, top_k, least(name), wish.filter)
        lowest = min(minima, key=lambda each: each.score)
        trace.min_score, trace.min_score_from = lowest.score, lowest.source
        trace.searched(retrieval)
        return retrieval
