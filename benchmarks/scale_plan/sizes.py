"""The arithmetic of the plan: how many of each part a volume needs, what they cost, and at what volume each part gives.

Peak rates decide sizes, months decide costs and disks. Modelled, from measured figures and stated assumptions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.economics.defaults import ASSUMED, DEMAND_UTILISATION
from benchmarks.economics.fleet import ALWAYS_ON, HOURS_PER_MONTH, queries_per_s, replicas
from benchmarks.economics.hosted import QueryShape, TokenRates, generation_usd
from benchmarks.prices import ApiPrice, GpuPrice
from benchmarks.scale_plan.installed import Installed
from benchmarks.scale_plan.measured import Corpus, Engine, Measured

VOLUMES = (10_000_000, 1_000_000_000)
# Relative load by hour of a business day, local time; assumed. Its peak over its mean is the plan's.
HOURLY = (20, 15, 12, 10, 10, 12, 20, 40, 70, 90, 100, 98, 90, 92, 96, 94, 85, 70, 55, 45, 38, 32, 28, 24)
PEAK_TO_MEAN = max(HOURLY) * len(HOURLY) / sum(HOURLY)
SPARES = 1
# Of a knowledge base; assumed, and no matter of the volume.
PASSAGES = 1_000_000
_SECONDS = HOURS_PER_MONTH * 3600
# The machine of the price row `cpu-2-core`, by its source.
_CORES_OF_ROW = 2
_LEAST = 2


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one volume. `month` gibibytes are what the ledger grows by; connections are the most that gateways open."""

    volume: int
    mean_per_s: float
    peak_per_s: float
    engines: int
    gateways: int
    gateway_cores: float
    chroma_cores: float
    chroma_gib: float
    rows_per_s: float
    month_gib: float | None
    log_month_gib: float | None
    connections: int
    engines_usd: Decimal
    rest_usd: Decimal


def sizes(volume: int, engine: Engine, found: Measured, installed: Installed, cpu: GpuPrice) -> Sizes:
    """With the measured `engine` as the replica; what is not the engine runs on machines of the `cpu` row."""
    mean = float(queries_per_s(Decimal(volume), ALWAYS_ON))
    peak = mean * PEAK_TO_MEAN
    engines = replicas(
        Decimal(repr(peak)), Decimal(repr(engine.rate.queries_per_s)), min_replicas=_LEAST - SPARES, spares=SPARES
    )
    reserve = float(DEMAND_UTILISATION.value)
    gateway_cores = peak * query_core_s(found, engine.output_tokens) / reserve
    gateways = max(_LEAST, math.ceil(gateway_cores / installed.gateway_cores))
    corpus = corpus_of(found.corpora)
    chroma_cores = peak * float(corpus.dense_s.value) / reserve
    ledger = found.ledger
    database_cores = max(1, math.ceil(peak / (float(ledger.rows_per_s.value) * reserve))) if ledger else 1
    rest_cores = gateways * installed.gateway_cores + max(1, math.ceil(chroma_cores)) + database_cores
    return Sizes(
        volume=volume,
        mean_per_s=mean,
        peak_per_s=peak,
        engines=engines,
        gateways=gateways,
        gateway_cores=gateway_cores,
        chroma_cores=chroma_cores,
        chroma_gib=float(corpus.memory_mib.value) / 1024,
        rows_per_s=peak,
        month_gib=volume * float(ledger.bytes_per_request.value) / 2**30 if ledger else None,
        log_month_gib=volume * float(ledger.log_bytes_per_request.value) / 2**30 if ledger else None,
        connections=gateways * installed.connections_per_gateway,
        engines_usd=engines * engine.price.usd_per_hour * HOURS_PER_MONTH,
        rest_usd=Decimal(repr(rest_cores)) * cpu.usd_per_hour / _CORES_OF_ROW * HOURS_PER_MONTH,
    )


def query_core_s(found: Measured, output_tokens: float) -> float:
    """Seconds of a gateway's core for a streamed answer with documents."""
    costs = found.gateway
    return float(costs.request_s.value) + float(costs.retrieval_s.value) + output_tokens * float(costs.token_s.value)


def corpus_of(corpora: Sequence[Corpus]) -> Corpus:
    """The measured one that is nearest to the plan's size."""
    return min(corpora, key=lambda corpus: abs(math.log(corpus.passages / PASSAGES)))


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Where a part gives, as the manifests install it. `per_s` at the peak; `volume` a month by the day's curve."""

    part: str
    per_s: float
    how: str
    kind: str

    @property
    def volume(self) -> float:
        """Queries a month."""
        return self.per_s / PEAK_TO_MEAN * float(_SECONDS)


def ceilings(engine: Engine, found: Measured, installed: Installed) -> list[Ceiling]:
    """Of every part whose rate is known, the first to give first."""
    return sorted(_ceilings(engine, found, installed), key=lambda ceiling: ceiling.per_s)


def _ceilings(engine: Engine, found: Measured, installed: Installed) -> Iterator[Ceiling]:
    rate = engine.rate.queries_per_s
    yield Ceiling(
        "engines", installed.engines * rate, f"{installed.engines} replicas at most x {rate:.2f}/s", "modelled"
    )
    core_s = query_core_s(found, engine.output_tokens)
    each = installed.gateway_cores / core_s
    how = f"{installed.gateways} pods at most x {installed.gateway_cores:g} core / {1000 * core_s:.1f} ms"
    yield Ceiling("gateways", installed.gateways * each, how, "modelled")
    connected = installed.connections // installed.connections_per_gateway
    if connected < installed.gateways:
        words = f"{installed.connections} connections / {installed.connections_per_gateway} = {connected} gateways"
        yield Ceiling("PostgreSQL's connections", connected * each, words, "modelled")
    if found.ledger is not None:
        rows = float(found.ledger.rows_per_s.value)
        yield Ceiling("PostgreSQL's ledger", rows, "rows a second from one writer, one a query", "measured")
    dense_s = float(corpus_of(found.corpora).dense_s.value)
    words = f"{installed.chroma_cores:g} core / {1000 * dense_s:.1f} ms at {PASSAGES:,} passages"
    yield Ceiling("Chroma's processor", installed.chroma_cores / dense_s, words, "modelled")


def days_until_full(volume: int, found: Measured, installed: Installed) -> float | None:
    """Until the ledger fills PostgreSQL's volume, when nothing is ever deleted."""
    if found.ledger is None:
        return None
    bytes_per_day = volume * float(found.ledger.bytes_per_request.value) / float(HOURS_PER_MONTH / 24)
    return installed.database_gib * 2**30 / bytes_per_day


def passages_in_memory(found: Measured, installed: Installed) -> float:
    """That Chroma's limit holds, by the memory measured at the plan's size."""
    corpus = corpus_of(found.corpora)
    return installed.chroma_gib * 1024 / float(corpus.memory_mib.value) * corpus.passages


@dataclass(frozen=True, slots=True)
class Inversion:
    """What a GPU must do so that the machines alone cost what the hosted model asks for the same tokens: the hosted
    bill buys `gpus`, of which all but the spares carry the peak. None: it buys not even those."""

    gpu: GpuPrice
    hosted: ApiPrice
    volume: int
    hosted_usd: Decimal
    gpus: int
    per_s: float | None


def invert(volume: int, gpu: GpuPrice, hosted: ApiPrice) -> Inversion:
    """For the reference workload of the documents."""
    shape = QueryShape(ASSUMED["prompt_tokens"].value, ASSUMED["output_tokens"].value)
    rates = TokenRates(hosted.input_usd_per_mtok, hosted.cached_input_usd_per_mtok, hosted.output_usd_per_mtok)
    bill = volume * generation_usd(shape, rates)
    gpus = int(bill / (gpu.usd_per_hour * HOURS_PER_MONTH))
    peak = float(queries_per_s(Decimal(volume), ALWAYS_ON)) * PEAK_TO_MEAN
    return Inversion(gpu, hosted, volume, bill, gpus, peak / (gpus - SPARES) if gpus > SPARES else None)
