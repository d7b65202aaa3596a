"""How an answer that was not streamed is divided into prefill and decode: apportioned, because nobody saw its first
token.

The engine measures how long its requests queued, were prefilled and decoded. Its means, per request, per prompt token
that it computed and per token that it generated, say which part of an answer of these lengths is which; that part of
the request's own busy seconds is taken. So the sum stays what was metered, and only where it is cut is modelled.
"""

from dataclasses import dataclass

from serving.accounting.record import Tokens


@dataclass(frozen=True, slots=True)
class EngineRates:
    """Means in seconds by the clock, as the engine measured them."""

    queue_s_per_request: float
    prefill_s_per_token: float
    decode_s_per_token: float

    def prefill_of(self, busy_s: float, tokens: Tokens) -> float | None:
        """Of the busy seconds of a whole answer, those before its first token, the engine's queue included; None if
        these lengths take no time."""
        computed = max(0, tokens.prompt - tokens.cached)
        prefill = self.queue_s_per_request + computed * self.prefill_s_per_token
        whole = prefill + tokens.completion * self.decode_s_per_token
        return busy_s * prefill / whole if whole > 0 else None


def engine_rates(
    requests: float, seconds: tuple[float, float, float], computed_tokens: float, generated_tokens: float
) -> EngineRates | None:
    """From sums over finished requests: how many, their seconds in queue, prefill and decode, and their tokens. None
    while they do not say enough."""
    queue_s, prefill_s, decode_s = seconds
    counts = (requests, computed_tokens, generated_tokens)
    if not all(0 < count < float("inf") for count in counts) or not all(0 <= s < float("inf") for s in seconds):
        return None
    return EngineRates(queue_s / requests, prefill_s / computed_tokens, decode_s / generated_tokens)
