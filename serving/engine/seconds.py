"""What an engine itself measures of its requests: how long they queued, were prefilled and decoded.

Whoever asks for a whole answer sees neither its first token nor the engine's queue; the engine does, and its own
histograms say it in sums.
"""

from dataclasses import astuple, dataclass

_LABELS = b"{"
# Of vLLM's Prometheus page, in the order of EngineSeconds; each is observed once per finished request.
_SERIES = (
    b"vllm:request_queue_time_seconds_count",
    b"vllm:request_queue_time_seconds_sum",
    b"vllm:request_prefill_time_seconds_sum",
    b"vllm:request_decode_time_seconds_sum",
    b"vllm:request_prefill_kv_computed_tokens_sum",
    b"vllm:request_generation_tokens_sum",
)


@dataclass(frozen=True, slots=True)
class EngineSeconds:
    """Sums over the requests that an engine has finished since it started. `computed_tokens`: of prompts, those that
    were not in its prefix cache. Seconds by the clock: those of requests that ran together overlap."""

    requests: float = 0.0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    computed_tokens: float = 0.0
    generated_tokens: float = 0.0

    def __add__(self, other: "EngineSeconds") -> "EngineSeconds":
        """Of two lots of requests together."""
        return EngineSeconds(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def read_page(page: bytes) -> EngineSeconds | None:
    """From vLLM's Prometheus page, summed over its engines; None if it is not vLLM's, or of one that does not say."""
    sums = dict.fromkeys(_SERIES, 0.0)
    seen = set()
    for line in page.splitlines():
        name = line.partition(_LABELS)[0]
        if name in sums:
            try:
                sums[name] += float(line.rpartition(b" ")[2])
            except ValueError:
                return None
            seen.add(name)
    return EngineSeconds(*sums.values()) if len(seen) == len(_SERIES) else None
