"""Ingests attached files in the background, one at a time, tenants in turn, and sweeps away what has expired.

What is to do is what the catalogue says is in progress: a gateway that was killed goes on where it was. One at a time,
because questions share the embedder. Gateways that share the catalogue share the work, and what a killed one had begun
is another's within seconds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import PurePosixPath

from retrieval.documents import SUPPORTED
from serving.auth import Caller
from serving.errors import GatewayError, NotFound, StoreUnavailable, Unprocessable
from serving.knowledge import Knowledge
from serving.stores.attachments import Attachment, Attachments
from serving.stores.files import Files

logger = logging.getLogger("breakeven")
SWEEP_S = 60.0
LOOK_S = 2.0  # how often to look for what other gateways left
PAUSE_S = 5.0  # after a fault of ours, so that it does not fill the log
# How often a file may meet one: a fault that comes with a file must not hold up all that come after it.
_MOST_FAULTS = 3


class Worker:
    """Runs between `start` and `stop`; `waiting` is set whenever there is something to do."""

    def __init__(
        self,
        knowledge: Knowledge,
        files: Files,
        attachments: Attachments,
        waiting: asyncio.Event,
        sweep: Callable[[], Awaitable[None]],
        look_s: float | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._knowledge, self._files, self._attachments = knowledge, files, attachments
        self._waiting, self._sweep, self._look_s, self._pause_s = waiting, sweep, look_s, pause_s
        self._faults = Counter[str]()  # by attempt
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Goes on with what an earlier run left."""
        self._waiting.set()
        self._tasks = [asyncio.create_task(self._ingest_all()), asyncio.create_task(self._sweep_often())]

    async def stop(self) -> None:
        """Ends now; a file in work is ingested again at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ingest_all(self) -> None:
        turn = ""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._waiting.wait(), self._look_s)
            self._waiting.clear()
            try:
                while (found := await self._attachments.take_waiting(turn)) is not None:
                    attachment, store = found
                    turn = store["tenant"]
                    owner = Caller(turn, frozenset(), "operator", "ingestion")
                    try:
                        await self._ingest(owner, store["knowledge"], attachment)
                    finally:
                        await self._attachments.release(attachment)
            except Exception:
                logger.exception("ingestion of attached files failed; trying again in %.0f s", self._pause_s)
                await asyncio.sleep(self._pause_s)
                self._waiting.set()

    async def _ingest(self, owner: Caller, knowledge: str, found: Attachment) -> None:
        error = None
        terms = found.terms
        cut = None if terms.chunking is None else (terms.chunking.size, terms.chunking.overlap)
        try:
            data = await self._files.read(found.file_id)
            await self._knowledge.ingest(owner, knowledge, found.source, data, terms.groups, terms.attributes, cut)
        except FileNotFoundError:
            error = ("invalid_file", "the file was deleted before it could be read; upload it again")
        except StoreUnavailable as away:
            if not await self._knowledge.healthy():
                raise  # not this file's fault: it is for later
            error = self._fault(found, away)
        except GatewayError as refused:
            error = (_code(found, refused), refused.message)
        except Exception as failure:
            error = self._fault(found, failure)
        self._faults.pop(found.attempt, None)
        if not await self._attachments.finish(found, error):
            await self._withdraw(owner, knowledge, found)

    def _fault(self, found: Attachment, failure: Exception) -> tuple[str, str]:
        """Why the file has failed for good. Raises `failure` while it is worth another try."""
        self._faults[found.attempt] += 1
        if self._faults[found.attempt] < _MOST_FAULTS:
            raise failure
        logger.error("%s is given up after %d faults", found.file_id, _MOST_FAULTS, exc_info=failure)
        return ("server_error", "the gateway failed at this file; its log has the details. Attach it again later")

    async def _withdraw(self, owner: Caller, knowledge: str, found: Attachment) -> None:
        # Removed or cancelled while we were at it. If it was attached anew, the next round puts it right.
        now = await self._attachments.find(found.store_id, found.file_id)
        if now is not None and now.status == "in_progress" and await self._attachments.has_store(found.store_id):
            return
        # After whoever removes the store, so that what was ingested behind their back does not outlive it.
        async with self._attachments.removing(found.store_id):
            with suppress(NotFound):
                await self._knowledge.remove(owner, knowledge, found.source)
                empty = not await self._knowledge.documents(owner, knowledge)
                if empty and not await self._attachments.claimed(owner.tenant, knowledge):
                    await self._knowledge.drop(owner, knowledge)

    async def _sweep_often(self) -> None:
        while True:
            try:
                await self._sweep()
            except Exception:
                logger.exception("expired files and vector stores could not be removed; trying again")
            await asyncio.sleep(SWEEP_S)


def _code(found: Attachment, error: GatewayError) -> str:
    if not isinstance(error, Unprocessable):
        return "server_error" if error.status >= 500 else "invalid_file"
    supported = PurePosixPath(found.source).suffix.lower() in SUPPORTED
    return "invalid_file" if supported else "unsupported_file"
