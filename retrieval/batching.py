"""Questions that wait together are embedded together: a model takes eight short texts in little more time than one.

While one call runs, others queue; whoever waited longest then takes all that wait. A caller alone never waits to fill a
batch; after a batch of several a millisecond is given to them, for those who were answered together ask again together,
and one of them would otherwise encode alone. Who has his vectors is woken by name: if all waited for one lock, they
would stand in line behind the next batch to fetch what they already have.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.embedder import BATCH, Embedder, refuse_long

_SHARED = 8  # texts; more than that is a document's, which a question should not have to wait for twice
_GATHER_S = 0.001  # a question alone takes six


@dataclass(slots=True, eq=False)
class _Waiting:
    """One caller's texts, and what became of them: woken with neither vectors nor an error, he is next to encode."""

    texts: Sequence[str]
    woken: threading.Event = field(default_factory=threading.Event)
    vectors: NDArray[np.float32] | None = None
    error: BaseException | None = None


class BatchingEmbedder:
    """An Embedder over another one. Calls it from one thread at a time."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._encoding, self._queueing = threading.Lock(), threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._led = False  # somebody encodes for those who wait
        self._several = False  # the last batch was of more than one caller
        self.name = inner.name
        self.dimensions = inner.dimensions
        self.max_tokens = inner.max_tokens
        self.fingerprint = inner.fingerprint
        self.tokenizer: Tokenizer = inner.tokenizer

    @property
    def waiting(self) -> int:
        """How many calls wait for the model."""
        return len(self._queue)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Embedder."""
        return self._inner.count_tokens(texts)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        if not 0 < len(texts) <= _SHARED:
            with self._encoding:
                return self._inner.encode(texts)
        refuse_long(self.count_tokens(texts), self.max_tokens)  # here, so that it fails nobody else
        own = _Waiting(texts)
        with self._queueing:
            self._queue.append(own)
            leads, self._led = not self._led, True
        if not leads:
            own.woken.wait()
        if own.vectors is None and own.error is None:
            try:
                with self._encoding:
                    self._encode(self._take(own))
            finally:
                self._hand_over()
        if own.vectors is None:
            raise own.error or RuntimeError("an embedding call ended without a result")
        return own.vectors

    def _hand_over(self) -> None:
        with self._queueing:
            if self._queue:
                self._queue[0].woken.set()
            else:
                self._led = False

    def _take(self, own: _Waiting) -> list[_Waiting]:
        """One's own and those that waited longest, at most BATCH texts."""
        if self._several:
            time.sleep(_GATHER_S)
        with self._queueing:
            self._queue.remove(own)
            taken, room = [own], BATCH - len(own.texts)
            while self._queue and len(self._queue[0].texts) <= room:
                taken.append(self._queue.popleft())
                room -= len(taken[-1].texts)
        self._several = len(taken) > 1
        return taken

    def _encode(self, taken: Sequence[_Waiting]) -> None:
        try:
            vectors = self._inner.encode([text for one in taken for text in one.texts])
        except BaseException as error:
            for one in taken:
                one.error = error
                one.woken.set()
            return
        at = 0
        for one in taken:
            one.vectors = vectors[at : at + len(one.texts)]
            at += len(one.texts)
            one.woken.set()
