"""Which stage of a request its seconds went into. Pure; the stages of a request add up to its share.

- `embed`, `search`, `rerank`: the host's time, divided as these took by the clock. It is paid only where the
  accelerator waited meanwhile; while it worked for others, its time was paid by them.
- `route`: what a router's classification took of the engine.
- `prefill`, `decode`: the busy share until a stream's first token, and from then on. The engine's own queue is in
  prefill. A whole answer has no first token that we could see: its share is apportioned by what the engine measured
  of its own requests (engine_rates.py), and as long as that is nothing it is `generate`, which is both.
- `idle`: its share of idle time. Waiting before the engine costs nothing: that time is somebody's, or idle.
"""

from serving.accounting.record import RequestRecord

STAGES = ("embed", "search", "rerank", "route", "prefill", "decode", "generate", "idle")
Seconds = tuple[float, float, float, float, float, float, float, float]


def stages_of(record: RequestRecord) -> Seconds:
    """Seconds of the machine per stage, as STAGES orders them."""
    share, times = record.share, record.times
    route_s = 0.0 if record.routing is None else record.routing.share.busy_s
    measured = (times.embed_s or 0.0, times.search_s or 0.0, times.rerank_s or 0.0)
    return divide(share.busy_s, share.idle_s, share.host_s, measured, (route_s, record.prefill_s))


def divide(
    busy_s: float,
    idle_s: float,
    host_s: float,
    measured_s: tuple[float, float, float],
    engine_s: tuple[float, float | None],
) -> Seconds:
    """`measured_s`: what embedding, searching and reranking took by the clock; `engine_s`: of the busy share, the
    router's, and that until the first token where one was seen."""
    embed, search, rerank = measured_s
    if whole := embed + search + rerank:
        host = (host_s * embed / whole, host_s * search / whole, host_s * rerank / whole)
    else:
        host = (0.0, host_s, 0.0)  # it broke off before it was measured
    route_s, prefill_s = engine_s
    rest = busy_s - route_s
    if prefill_s is None:
        return (*host, route_s, 0.0, 0.0, rest, idle_s)
    return (*host, route_s, prefill_s, rest - prefill_s, 0.0, idle_s)
