"""The live break-even: the same model as `whatif`, with what the gateway measures in place of assumptions.

What a window of traffic shows is measured; what nobody can see from there (people, the hosted tokenizer, batches) is
assumed, by the operator or by the model's defaults, and every number says which. A window that is too small gives no
number at all, but what is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.economics.answer import Answer, answer
from benchmarks.economics.defaults import DEMAND
from benchmarks.economics.document import figure
from benchmarks.economics.figures import Figure, Kind, bounded
from benchmarks.economics.live_document import as_gauges, comparisons, statement_of
from benchmarks.economics.measured import Observed, window_figures
from benchmarks.economics.question import ask
from benchmarks.economics.uncertainty import bootstrap
from benchmarks.errors import ModelError
from benchmarks.prices import GpuPrice, PriceBook
from benchmarks.prices.validity import notes
from serving.accounting.economics import Appraisal
from serving.accounting.ledger.traffic import Block, Traffic

# Fewer say nothing about a month, and an interval needs repeats.
NEEDED_ANSWERS, NEEDED_BLOCKS = 30, 5
MONTH_S = 730 * 3600
_DRAWS = 200
Ratio = Callable[[Mapping[str, float]], float]
_NOT_ASSUMED = ("volume", "gpu", "hosted")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the traffic is compared with. `assumptions`: inputs of docs/economics.md, over what is measured.
    `retrieval`: the price row of a hosted design's searches, None if it brings its own."""

    machine: GpuPrice
    accelerators: int
    hosted: Sequence[str]
    assumptions: Mapping[str, Any]
    retrieval: str | None


class LiveEconomics:
    """An Economist. Raises ModelError or PriceError for terms that the model cannot use."""

    def __init__(self, book: PriceBook, terms: Terms, today: Callable[[], date] = date.today) -> None:
        self._book, self._terms, self._today = book, terms, today
        if wrong := [name for name in _NOT_ASSUMED if name in terms.assumptions]:
            raise ModelError(f"cost.assumptions: {wrong[0]} is not assumed here but measured or set under cost")
        if terms.hosted:
            ask(book, today(), ("cost.assumptions", {**terms.assumptions, "hosted": list(terms.hosted)}))
        if terms.retrieval is not None:
            book.unit(terms.retrieval)

    def appraise(self, seen: Traffic) -> Appraisal:
        """See Economist."""
        kind = "simulated" if seen.simulated else "measured"
        measured = _measured(seen)
        missing = _missing(seen) if self._terms.hosted else ["cost.hosted_models names nothing to compare with"]
        found = None
        if not missing:
            try:
                found = self._answer(seen)
            except ModelError as error:  # traffic that the model cannot hold, such as a clock that was set back
                missing = [str(error)]
        document: dict[str, Any] = {
            "object": "breakeven.economics",
            "status": "not yet measured" if missing else kind,
            "missing": missing,
            "window": {
                "asked_seconds": seen.asked_s,
                "covered_seconds": round(seen.covered_s, 1),
                "until": datetime.fromtimestamp(seen.until, UTC).isoformat(timespec="seconds"),
            },
            "engine_simulated": seen.simulated,
            "price": _price(self._terms.machine),
            "measured": _told(measured, kind),
            "bill": statement_of(seen.bill),
            "hosted": [],
            "inputs": {},
            "notes": [],
        }
        if found is not None:
            document["hosted"] = comparisons(found, seen.whole.queries)
            document["inputs"] = _told(found.inputs, kind)
            document["notes"] = [*self._about_machine(), *found.notes]
        return Appraisal(document, as_gauges(measured, found))

    def _answer(self, seen: Traffic) -> Answer:
        terms = self._terms
        source = f"the last {seen.covered_s / 3600:.3g} h"
        inputs = {name: _as_input(held) for name, held in self._inputs(seen, source).items()}
        if any(name in terms.assumptions for name in DEMAND):
            del inputs["queries_per_minute"], inputs["max_utilisation"]
        volume = Decimal(seen.whole.queries * MONTH_S) / Decimal(seen.covered_s)
        sources = (
            (source, {**inputs, "volume": round(volume, 6), "hosted": list(terms.hosted)}),
            ("cost.assumptions", terms.assumptions),
        )
        return answer(ask(self._book, self._today(), *sources), _DRAWS)

    def _inputs(self, seen: Traffic, source: str) -> dict[str, Figure]:
        """Figures of the model from the window, with intervals over its blocks."""
        whole, machine = seen.whole, self._terms.machine
        found = window_figures(_observed(whole, self._terms.accelerators), source)
        for name, statistic in _STATISTICS.items():
            held = found[name]
            found[name] = _interval(seen, statistic(self._terms.accelerators), held)
        kind: Kind = "assumed" if machine.basis == "assumed" else "quoted"
        found["usd_per_gpu_hour"] = Figure(
            machine.usd_per_hour, kind, f"{machine.id}: {machine.source}", as_of=machine.as_of
        )
        found["gpus_per_replica"] = Figure(Decimal(self._terms.accelerators), "measured", "engine.tensor_parallel_size")
        return found | self._retrieval(whole)

    def _retrieval(self, whole: Block) -> dict[str, Figure]:
        """What a hosted design pays for the same searches, instead of the model's monthly vector database."""
        if not whole.searched:
            return {"api_usd_per_month": Figure(Decimal(0), "measured", "no query searched documents")}
        if self._terms.retrieval is None:
            return {}
        price = self._book.unit(self._terms.retrieval)
        share = Decimal(whole.searched) / whole.queries
        source = f"{price.id}: {price.source}, for the {float(share):.0%} of queries that searched"
        return {
            "api_fees_usd_per_query": Figure(price.usd / 1000 * share, "modelled", source, as_of=price.as_of),
            "api_usd_per_month": Figure(Decimal(0), "modelled", f"{price.id} is paid per search"),
        }

    def _about_machine(self) -> tuple[str, ...]:
        machine = self._terms.machine
        if machine.basis == "configured" and machine.as_of == "not stated":
            return ("cost.as_of is not set: nobody can tell how old the machine's price is",)
        return notes(machine, self._today())


def _told(figures: Mapping[str, Figure], kind: str) -> dict[str, Any]:
    # What a simulated engine does is measured, too, and means nothing.
    told = {name: figure(held) for name, held in figures.items()}
    return {name: each | {"kind": kind} if each["kind"] == "measured" else each for name, each in told.items()}


def _missing(seen: Traffic) -> list[str]:
    answered = seen.whole.answered if seen.blocks else 0
    blocks = sum(block.answered > 0 for block in seen.blocks)
    lacking = []
    if answered < NEEDED_ANSWERS:
        lacking.append(f"{answered} of the {NEEDED_ANSWERS} answers that an estimate needs")
    if blocks < NEEDED_BLOCKS:
        lacking.append(f"answers in {blocks} of the {NEEDED_BLOCKS} stretches of {seen.block_s:.0f} s that it needs")
    return lacking


def _measured(seen: Traffic) -> dict[str, Figure]:
    """What needs no model: nothing at all before the first query."""
    if not seen.blocks or not (whole := seen.whole).queries or not whole.billed_s:
        return {}
    usd_per_s = float(seen.bill.billed_usd) / seen.bill.billed_s if seen.bill.billed_s else 0.0
    source = f"over {seen.covered_s / 3600:.3g} h; the bill at its price over {whole.queries} queries"
    per_query: dict[str, Ratio] = {
        "usd_per_query": lambda sums: usd_per_s * sums["billed_s"] / sums["queries"],
        "usage_usd_per_query": lambda sums: usd_per_s * (sums["busy_s"] + sums["host_s"]) / sums["queries"],
        "effective_utilisation": lambda sums: sums["busy_s"] / sums["billed_s"],
    }
    if whole.answered:
        per_query["usd_per_answered"] = lambda sums: usd_per_s * sums["billed_s"] / sums["answered"]
    found = {}
    for name, ratio in per_query.items():
        value = Figure(Decimal(repr(ratio(_sums(whole)))), "measured", source)
        found[name] = _interval(seen, ratio, value)
    found["queries_per_month"] = Figure(
        Decimal(repr(round(whole.queries * MONTH_S / max(seen.covered_s, 1e-9), 3))),
        "modelled",
        f"{whole.queries} queries in {seen.covered_s / 3600:.3g} h, at that pace",
    )
    return found


# How the model's inputs follow from a block's sums, by the number of accelerators of a replica.
_STATISTICS: Mapping[str, Callable[[int], Ratio]] = {
    "queries_per_minute": lambda count: lambda sums: 60 * count * sums["answered"] / sums["busy_s"],
    "prompt_tokens": lambda _: lambda sums: sums["prompt_tokens"] / sums["answered"],
    "output_tokens": lambda _: lambda sums: sums["completion_tokens"] / sums["answered"],
    # Those that failed, too: they have no answer, and a hosted model would not have charged for them.
    "abstain_share": lambda _: lambda sums: 1 - sums["answered"] / sums["queries"],
}


def _sums(block: Block) -> dict[str, float]:
    return {name: float(getattr(block, name)) for name in Block.__slots__}


def _interval(seen: Traffic, ratio: Ratio, held: Figure) -> Figure:
    """The figure with an interval over the window's blocks, if there are enough of them."""
    if len(seen.blocks) < NEEDED_BLOCKS:
        return held
    columns = {name: np.array([getattr(block, name) for block in seen.blocks], float) for name in Block.__slots__}

    def of(drawn: NDArray[np.float64]) -> float:
        rows = drawn.astype(int)
        sums = {name: float(column[rows].sum()) for name, column in columns.items()}
        try:
            return ratio(sums)
        except ZeroDivisionError:
            return float(held.value)  # a draw of idle blocks only says nothing

    found = bootstrap(range(len(seen.blocks)), of, _DRAWS)
    return bounded(found.low, float(held.value), found.high, held.kind, held.source)


def _observed(whole: Block, accelerators: int) -> Observed:
    # Of replicas: one that is split over several accelerators is busy on all of them at once.
    return Observed(
        queries=whole.queries,
        abstained=whole.queries - whole.answered,
        prompt_tokens=whole.prompt_tokens,
        cached_prompt_tokens=whole.cached_tokens,
        output_tokens=whole.completion_tokens,
        busy_gpu_s=whole.busy_s / accelerators,
        billed_gpu_s=whole.billed_s / accelerators,
    )


def _as_input(held: Figure) -> dict[str, Any]:
    ends = {} if held.low is None or held.high is None else {"low": held.low, "high": held.high}
    seen = {} if held.as_of is None else {"as_of": held.as_of}
    return {"value": held.value, "kind": held.kind, "source": held.source, **ends, **seen}


def _price(machine: GpuPrice) -> dict[str, str]:
    return {
        "id": machine.id,
        "usd_per_hour": str(machine.usd_per_hour),
        "source": machine.source,
        "as_of": machine.as_of,
        "basis": machine.basis,
    }
