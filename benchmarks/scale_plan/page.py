"""docs/scale-plan.md, from the figures and the simulation's answers. No number in it is typed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.economics.defaults import ASSUMED, DEMAND_UTILISATION
from benchmarks.economics.figures import Figure
from benchmarks.economics.fleet import HOURS_PER_MONTH
from benchmarks.prices import ApiPrice, GpuPrice, PriceBook
from benchmarks.scale_plan import sizes
from benchmarks.scale_plan.installed import Installed
from benchmarks.scale_plan.measured import Engine, Measured
from benchmarks.scale_plan.simulated_tables import simulated
from benchmarks.scale_plan.tables import money, paragraph, table, volume

COMMAND = "python -m benchmarks.scale_plan"
MISSING = "**not yet measured**"
PICTURE = "scale-plan.svg"
# What the inversion is shown for: GPUs that are rented, and a hosted model of today beside one of the documents.
GPUS = ("a10g", "a100-80gb", "h100", "h200")
HOSTED = ("gpt-6-luna", "gpt-4o-mini", "claude-haiku-4-5")
_FOUR_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Material:
    """What the page is made of. `runs`: the simulation's answers by group."""

    found: Measured
    installed: Installed
    book: PriceBook
    runs: Mapping[str, Sequence[Mapping[str, Any]]]


def page(material: Material) -> str:
    """The whole page as Markdown."""
    engine = material.found.engine
    parts = [_INTRODUCTION, _inputs(material), _plan(material), _inverted(material)]
    if engine is not None:
        parts += [_breaks(material, engine), simulated(material.runs, engine, PICTURE)]
    return "\n".join([*parts, _LEFT_OUT])


_INTRODUCTION = "# The scale plan\n\n" + paragraph(
    f"From what was measured to {volume(sizes.VOLUMES[0])} and {volume(sizes.VOLUMES[1])} queries a month. Made by "
    f"`{COMMAND}` from `benchmarks/results`, the manifests in `k8s/` and the price file; a test compares page "
    "and data, "
    "so nobody types a figure. Every figure is *measured*, *modelled* (computed from others), *assumed* or *quoted* (a "
    "price with its date). The same command simulates; the same inputs give the same page to the byte."
)

_LEFT_OUT = """
## What it leaves out

- **PostgreSQL's search by words** and Chroma's server over the network: measured only inside one process, with the
  embedded stores. Either may give before the parts above.
- **The router's own processor**, the network, logs, Prometheus, and the disks' price.
- **Memory of the engine**: the simulation has places, no key-value cache; long contexts fill that first.
- **Loading an adapter** into another replica. Affinity is simulated as a shared beginning of prompts.
- **Failures that correlate**: a lost zone, a price that changes, a GPU that nobody can rent.
- Every day is like every other, and arrivals are Poisson within the hour.
"""


def _inputs(material: Material) -> str:
    found = material.found
    rows = [row for engine in (found.cpu, found.gpu) if engine is not None for row in _engine_rows(engine)]
    if found.gpu is None:
        rows.append(["A GPU replica's rate and demand", MISSING, "", "`benchmarks/gpu/run.sh`"])
    costs = found.gateway
    rows += [
        _row("Gateway, a request without documents", costs.request_s, 1e6, "µs of a core"),
        _row("Gateway, each token of a stream", costs.token_s, 1e6, "µs of a core"),
        _row("Gateway, embedding and search in process", costs.retrieval_s, 1e3, "ms of a core"),
        _row("Gateway, memory without documents", costs.memory_mib, 1, "MB"),
    ]
    for corpus in found.corpora:
        name = f"{corpus.passages:,} passages"
        rows.append(_row(f"{name}, search by vectors", corpus.dense_s, 1e3, "ms"))
        each = float(corpus.memory_mib.value) * 100_000 / corpus.passages
        rows.append(_row(f"{name}, memory", corpus.memory_mib, 1, f"MiB ({each:,.0f} per 100,000)"))
    if found.ledger is None:
        rows.append(["PostgreSQL, a request in the ledger", MISSING, "", "`python -m benchmarks.ledger_size`"])
    else:
        rows.append(_row("PostgreSQL, a request in the ledger", found.ledger.bytes_per_request, 1, "bytes"))
        rows.append(_row("PostgreSQL, its write-ahead log", found.ledger.log_bytes_per_request, 1, "bytes"))
        rows.append(_row("PostgreSQL, ledger rows from one writer", found.ledger.rows_per_s, 1, "a second"))
    rows.append(_row("Engine on a CPU, from its start to ready", found.ready_s, 1, "s"))
    busy = f"{DEMAND_UTILISATION.value:.0%}"
    rows += [
        ["Peak over mean of a day", f"{sizes.PEAK_TO_MEAN:.2f}", "assumed", "the hours of a business day, `sizes.py`"],
        ["Gateways and stores, busy at the peak", busy, "assumed", DEMAND_UTILISATION.source],
        ["Passages", f"{sizes.PASSAGES:,}", "assumed", "does not depend on the volume"],
    ]
    return "## What it starts from\n\n" + table(["", "value", "is", "from"], rows)


def _engine_rows(engine: Engine) -> Iterator[list[str]]:
    rate, fit = engine.rate, engine.fit
    bounds_s = (("p95 to the first token", engine.objectives.ttft_s), ("p95 whole", engine.objectives.e2e_s))
    said = " and ".join(f"{name} {bound:g} s" for name, bound in bounds_s if bound)
    shape = f"{engine.prompt_tokens:.0f} tokens in, {engine.output_tokens:.0f} out"
    bounds = "" if rate.low is None or rate.high is None else f" ({rate.low:.2f} to {rate.high:.2f})"
    yield [
        f"Engine, {engine.name}, {engine.machine}: rate within {said}; {shape}",
        f"{rate.queries_per_s:.2f}/s{bounds}",
        "measured",
        engine.source,
    ]
    step = fit.step_gpu_s_per_token.value if fit.step_gpu_s_per_token else 0.0
    values = (fit.base_gpu_s.value, fit.prefill_gpu_s_per_token.value, step, fit.decode_gpu_s_per_token.value)
    words = "fixed + per prompt token + per step + per answer in a step"
    yield [
        f"Its demand: {words}, fitted to {fit.runs} shapes, {fit.relative_error:.0%} error",
        " + ".join(f"{1000 * value:.2f}" for value in values) + " ms",
        "modelled",
        engine.source,
    ]
    price = engine.price
    yield [f"Its price, `{price.id}`", f"${price.usd_per_hour}/h", str(price.basis), f"{price.source}, {price.as_of}"]


def _row(name: str, figure: Figure, scale: float, unit: str) -> list[str]:
    value = float(figure.value) * scale
    # No exponents: four digits, or all of a larger one.
    written = f"{value:,.0f}" if value >= _FOUR_DIGITS else f"{value:.4g}"
    return [name, f"{written} {unit}", figure.kind, figure.source]


def _plan(material: Material) -> str:
    parts = ["## The plan\n"]
    for engine in (material.found.gpu, material.found.cpu):
        if engine is not None:
            parts.append(_plan_of(material, engine))
    return "\n".join(parts)


def _plan_of(material: Material, engine: Engine) -> str:
    found, cpu = material.found, material.book.cpu
    planned = [sizes.sizes(each, engine, found, material.installed, cpu) for each in sizes.VOLUMES]
    kinds = "GPU" if engine.gpu else "CPU"
    rates = [f"{each.mean_per_s:,.1f} and {each.peak_per_s:,.1f}" for each in planned]
    per_thousand = [f"{(each.engines_usd + each.rest_usd) * 1000 / each.volume:.4f}" for each in planned]
    rows = [
        ["Queries a second, mean and at the peak", *rates],
        [f"Engines ({kinds} replicas), {sizes.SPARES} of them spare", *(f"{each.engines:,}" for each in planned)],
        ["Gateways", *(f"{each.gateways} ({each.gateway_cores:.1f} cores)" for each in planned)],
        ["Chroma", *(f"{each.chroma_cores:.2f} cores, {each.chroma_gib:.1f} GiB" for each in planned)],
        ["PostgreSQL, ledger rows a second at the peak", *(f"{each.rows_per_s:,.0f}" for each in planned)],
        ["PostgreSQL, growth a month (and its log)", *(_growth(each) for each in planned)],
        ["PostgreSQL, connections at most", *(f"{each.connections:,}" for each in planned)],
        ["Engines, USD a month", *(money(each.engines_usd) for each in planned)],
        ["All else that computes, USD a month", *(money(each.rest_usd) for each in planned)],
        ["USD per 1,000 queries", *per_thousand],
    ]
    heading = ["a month", *(volume(each) for each in sizes.VOLUMES)]
    words = paragraph(
        f"With the replica that was measured: {engine.name} on {engine.machine}, {engine.prompt_tokens:.0f} tokens in "
        f"and {engine.output_tokens:.0f} out. Modelled. Prices by the hour: `{engine.price.id}` ({engine.price.basis}) "
        f"for engines, `{cpu.id}` ({cpu.basis}) for all else, {HOURS_PER_MONTH} hours a month."
    )
    return "\n".join([words, table(heading, rows)])


def _growth(each: sizes.Sizes) -> str:
    if each.month_gib is None or each.log_month_gib is None:
        return MISSING
    return f"{each.month_gib:,.0f} GiB ({each.log_month_gib:,.0f} GiB)"


def _inverted(material: Material) -> str:
    shape = f"{ASSUMED['prompt_tokens'].value:,} tokens in and {ASSUMED['output_tokens'].value} out"
    words = "## What a GPU must do\n\n" + paragraph(
        ("" if material.found.gpu else "No GPU has been measured, so the plan is turned around. ")
        + f"For the documents' reference workload, {shape} (assumed): what the hosted model asks (quoted) buys so many "
        f"GPUs (quoted); all but {sizes.SPARES} of them carry the peak, so each must answer so many queries a second "
        "within the objectives, or self-hosting costs more, before people and anything but GPUs are paid. Modelled."
    )
    heading = ["instead of", "on", *(f"{volume(each)} a month" for each in sizes.VOLUMES)]
    rows = [
        [hosted.id, f"`{gpu.id}` ${gpu.usd_per_hour}/h", *(_must(each, gpu, hosted) for each in sizes.VOLUMES)]
        for hosted in map(material.book.api, HOSTED)
        for gpu in map(material.book.gpu, GPUS)
    ]
    prices: list[GpuPrice | ApiPrice] = [*map(material.book.gpu, GPUS), *map(material.book.api, HOSTED)]
    seen = paragraph(f"Prices as of: {', '.join(f'`{each.id}` {each.as_of}' for each in prices)}.")
    return "\n".join([words, table(heading, rows), seen])


def _must(queries: int, gpu: GpuPrice, hosted: ApiPrice) -> str:
    found = sizes.invert(queries, gpu, hosted)
    if found.per_s is None:
        return f"never: {money(found.hosted_usd)} buys {found.gpus}"
    tokens = found.per_s * float(ASSUMED["output_tokens"].value)
    return f"{found.gpus:,} GPUs, {found.per_s:.2f}/s each ({tokens:,.0f} tokens/s out)"


def _breaks(material: Material, engine: Engine) -> str:
    found, installed = material.found, material.installed
    ceilings = sizes.ceilings(engine, found, installed)
    rows = [[each.part, each.how, f"{each.per_s:,.0f}", volume(each.volume), each.kind] for each in ceilings]
    parts = [
        "## What breaks first\n",
        f"As `k8s/overlays/scale-out` installs it, with {engine.name} on {engine.machine} as the engine:\n",
        table(["part", "ceiling", "queries a second", "queries a month", "is"], rows),
    ]
    for queries in sizes.VOLUMES:
        over = [each.part for each in ceilings if each.volume < queries]
        said = f"{', then '.join(over)} give" + ("s" if len(over) == 1 else "") if over else "every rate is kept"
        days = sizes.days_until_full(queries, found, installed)
        if days is not None:
            said += (
                f"; the database's volume ({installed.database_gib:g} GiB) is full of requests after {days:,.1f} days "
                "unless `ledger.retention_days` deletes old ones"
            )
        parts.append(f"- At **{volume(queries)}** a month: {said}.")
    passages, output = sizes.passages_in_memory(found, installed), ASSUMED["output_tokens"].value
    parts.append(
        f"- Whatever the volume: Chroma's limit of {installed.chroma_gib:g} GiB holds {passages:,.0f} passages. It is "
        "one process; a larger knowledge base needs a larger machine, not more of them.\n"
        f"- With answers of {output} tokens (the documents' reference workload) a gateway's core relays "
        f"{1 / sizes.query_core_s(found, float(output)):,.0f} queries a second with documents, modelled.\n"
    )
    return "\n".join(parts)
