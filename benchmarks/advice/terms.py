"""What the adviser takes for granted besides the needs: prices, the economic model's inputs, its own assumptions."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from benchmarks.advice.needs import INPUTS
from benchmarks.economics.defaults import chosen
from benchmarks.economics.figures import KINDS, Figure, assumed
from benchmarks.economics.question import FIGURES, OTHERS, ask
from benchmarks.economics.scenario import Scenario
from benchmarks.errors import AdviceError, PriceError
from benchmarks.prices import PriceBook

HOSTED = "gpt-6-luna"
ASSUMED: Mapping[str, Figure] = {
    "context_tokens": chosen(1200, "reference workload of the documents: 4 passages of 300 tokens"),
    "tuning_setup_usd": assumed(7575, "document D: $5,000-10,000 of preparation and $75 of training", "5075", "10075"),
    "adapter_retrains_per_month": assumed("0.333333", "an adapter for behaviour is trained again every quarter"),
    "tuned_price_multiple": assumed(2, "document D: hosted tuned models cost 1.5 to 2 times their base", "1", "2"),
    "own_first_token_ms": assumed(100, "a small model on a free GPU; nobody measured it here"),
    "hosted_first_token_ms": assumed(500, "a hosted model over the internet; nobody measured it here"),
    "retrieval_ms": assumed(300, "embedding, search and reading the passages; nobody measured it here"),
    "enough_examples": assumed(500, "document D's lowest number; the documents say 500 to 10,000", "500", "10000"),
    "tunable_updates_per_month": assumed("0.34", "document C: quarterly at most, the strictest of the documents"),
    "facts_saving_share": chosen("0.25", "what tuning facts in must save of the bill, for its answers are not checked"),
}
# These follow from the needs, so a second value for them would contradict the first.
_DERIVED = {
    "retrains_per_month": "it follows from the design and updates_per_month; set adapter_retrains_per_month instead"
}


@dataclass(frozen=True)
class Terms:
    """`scenario` is that of retrieval; `given` our own assumptions by name; `notes` what is wrong with prices.

    Compared by identity: answers are cached by it.
    """

    scenario: Scenario = field(hash=False, compare=False)
    given: Mapping[str, Figure] = field(hash=False, compare=False)
    notes: tuple[str, ...] = field(hash=False, compare=False)
    key: object = field(default_factory=object)

    @property
    def hosted_model(self) -> str:
        """What the hosted options run on."""
        return self.scenario.choices.hosted_model


def read_terms(book: PriceBook, today: date, *sources: tuple[str, Mapping[str, Any]]) -> Terms:
    """From named sources, later ones over earlier ones. ModelError or AdviceError names what is wrong."""
    given = dict(ASSUMED)
    rest: list[tuple[str, Mapping[str, Any]]] = [("default", {"hosted": [HOSTED]})]
    said: set[str] = set()
    for source, values in sources:
        _refuse_unknown(source, values)
        if wrong := next((name for name in _DERIVED if name in values), None):
            raise AdviceError(f"{source}: {wrong} cannot be set here: {_DERIVED[wrong]}")
        said |= values.keys()
        given |= {name: _figure(name, value, source) for name, value in values.items() if name in ASSUMED}
        rest.append((source, {name: value for name, value in values.items() if name not in ASSUMED}))
    question = ask(book, today, *rest)
    if len(question.scenarios) > 1:
        raise AdviceError("name one hosted model; `breakeven whatif` compares several")
    scenario = question.scenarios[0]
    if "tuned_price_multiple" not in said:
        given["tuned_price_multiple"] = _multiple(book, scenario)
    if given["context_tokens"].value > scenario.workload.prompt_tokens.value:
        raise AdviceError("context_tokens are a part of prompt_tokens and cannot be more")
    return Terms(scenario, given, question.notes)


def _refuse_unknown(source: str, values: Mapping[str, Any]) -> None:
    known = [*ASSUMED, *FIGURES, *OTHERS, *_DERIVED]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), [*INPUTS, *known], n=1, cutoff=0)[0]
            raise AdviceError(f"{source}: {name!r} is no input; did you mean {near!r}?")


def _multiple(book: PriceBook, scenario: Scenario) -> Figure:
    """What the model's own tuned version costs where that has a price."""
    model = scenario.choices.hosted_model
    try:
        tuned, base = book.api(f"ft:{model}"), book.api(model)
    except PriceError:
        return ASSUMED["tuned_price_multiple"]
    ratio = tuned.output_usd_per_mtok / base.output_usd_per_mtok
    return Figure(ratio, "quoted", f"{tuned.id} over {base.id}: {tuned.source}", as_of=tuned.as_of)


def _figure(name: str, said: Any, source: str) -> Figure:
    held = said if isinstance(said, Mapping) else {"value": said}
    kind = held.get("kind", "assumed")
    try:
        value = Decimal(str(held["value"]))
    except (KeyError, ArithmeticError):
        raise AdviceError(f"{source}: {name} must be a number, not {said!r}") from None
    if not value.is_finite() or value < 0 or kind not in KINDS:
        raise AdviceError(f"{source}: {name} must be a number of at least 0, with a kind of {', '.join(KINDS)}")
    return Figure(value, kind, str(held.get("source", source)))
