"""Advice in words and small tables. The first line alone must say what to build, where, and how sure that is."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Console

from benchmarks.advice.advice import Advice
from benchmarks.advice.decision import plain
from benchmarks.advice.flips import Flip, Key
from benchmarks.advice.needs import Value
from benchmarks.advice.options import Pair
from benchmarks.advice.rules import Opinion
from benchmarks.claims.wording import side_text
from benchmarks.economics.answer import HORIZON_MONTHS
from benchmarks.economics.terminal import dollars, interval, sensitivity, short, volume

_SHOWN_MONTHS = (1, 3, 6, 12, 18, 24)
_MOST_BARS = 2
_MOST_FLIPS = 2


def print_advice(advice: Advice, console: Console) -> None:
    """The whole advice."""
    console.print(headline(advice), style="bold", markup=False)
    why = advice.decision.why
    for part, reason in (("retrieval", why.retrieval), ("tuning", why.tuning), ("hosting", why.hosting)):
        console.print(f"  {part}: {reason}", markup=False)
    for doubt in advice.certainty.doubts:
        console.print(f"  but {doubt}", markup=False)
    _block(console, "What you need", _inputs(advice))
    _block(console, "USD spent, set-up included (modelled; * the answer)", _curves(advice))
    against = f"{advice.terms.hosted_model}, queries a month (modelled)"
    _block(console, f"Break-even of self-hosting against {against}", [*_break_even(advice), *_crossing(advice)])
    _sensitive(advice, console)
    _heard(advice, console)
    _block(console, "Taken for granted", _assumptions(advice))
    for note in advice.terms.notes:
        console.print(f"note: {note}", markup=False)


def headline(advice: Advice) -> str:
    """What, where, how sure."""
    sure, option = advice.certainty, advice.decision.option
    place = "self-hosting" if option.own else "the hosted model"
    near = f" The nearest change: {flip_text(advice.flips[0])}." if advice.flips else " No single input changes it."
    answer = f"{key_text(advice.decision.key)} ({_hosted(advice)}), {sure.grade} confidence"
    cost = f"{dollars(option.usd_per_month)} a month over {HORIZON_MONTHS} months (modelled)"
    return f"{answer}: {cost}, {place} cheaper in {sure.agreeing:.0%} of {sure.draws} draws.{near}"


def key_text(key: Key) -> str:
    """A design in its place."""
    design, own = key
    names = {
        "RAG": "RAG",
        "fine-tune": "Fine-tuning",
        "both": "Both RAG and fine-tuning",
        "prompt": "A prompt alone",
    }
    if design == "prompt" and not own:
        return "A hosted API with a good prompt, nothing retrieved or tuned"
    return f"{names[design]}, {'self-hosted' if own else 'on a hosted model'}"


def flip_text(flip: Flip) -> str:
    """One input, and what it must become."""
    return f"{flip.name} {value_text(flip.now)} -> {value_text(flip.to)} gives {key_text(flip.becomes)}"


def value_text(value: Value) -> str:
    """A value as it would be given."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(value) if isinstance(value, Decimal) else value


def _hosted(advice: Advice) -> str:
    machine = advice.terms.scenario.machines.usd_per_gpu_hour.source.partition(":")[0]
    model = advice.terms.hosted_model
    return f"{machine} against {model}" if advice.decision.option.own else f"{model} against {machine}"


def _block(console: Console, title: str, lines: Iterable[str]) -> None:
    console.print(f"\n{title}:", markup=False)
    for line in lines:
        console.print(line, markup=False)


def _inputs(advice: Advice) -> list[str]:
    rows = []
    for name, origin in advice.origins.items():
        source = f"given in {origin.source}" if origin.given else origin.source
        rows.append((name, value_text(advice.needs.value(name)), f"{origin.kind}, {source}"))
    return _aligned(rows, left=3)


def _aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines whose columns meet, the first `left` of them flush left. Never cut: a figure cut short is a wrong one."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]  # fmt: skip


def _curves(advice: Advice) -> list[str]:
    rows = [("by the end of month", *map(str, _SHOWN_MONTHS))]
    for option in (option for pair in advice.costs.values() for option in (pair.hosted, pair.own)):
        mark = " *" if (option.design, option.own) == advice.decision.key else ""
        spent = option.spent_usd()
        cells = (f"${short(spent[month - 1])}" for month in _SHOWN_MONTHS)
        rows.append((f"{option.design}, {'self-hosted' if option.own else 'hosted'}{mark}", *cells))
    return _aligned(rows)


def _break_even(advice: Advice) -> list[str]:
    rows = [("design", "V_first", "V_safe", f"self-hosting over {HORIZON_MONTHS} months")]
    for design, pair in advice.costs.items():
        rows.append((design, _volume(pair.where.first), _volume(pair.where.safe), _balance(pair)))
    return _aligned(rows)


def _volume(found: Decimal | None) -> str:
    return "never" if found is None else short(found)


def _balance(pair: Pair) -> str:
    apart = pair.hosted.total_usd - pair.own.total_usd
    return f"saves {dollars(apart)}" if apart >= 0 else f"costs {dollars(-apart)} more"


def _crossing(advice: Advice) -> list[str]:
    lines = []
    if advice.certainty.safe.p5 is not None:
        lines.append(
            f"  90 % interval of V_safe for {advice.decision.option.design}: {interval(advice.certainty.safe)}"
        )
    where = "at no volume" if advice.crossing is None else f"from {volume(advice.crossing)}"
    return [*lines, f"  a tuned model without passages costs less than RAG, both hosted: {where}"]


def _sensitive(advice: Advice, console: Console) -> None:
    lines = [f"  {flip_text(flip)}" for flip in advice.flips[:_MOST_FLIPS]] or ["  no single input"]
    if rest := advice.flips[_MOST_FLIPS:]:
        also = "; ".join(f"{flip.name} {value_text(flip.to)}" for flip in rest)
        lines.append(f"  further away: {also}")
    _block(console, "The answer hangs on (smallest change that gives another, modelled)", lines)
    bars = [f"  {sensitivity(bar)}" for bar in advice.bars[:_MOST_BARS]]
    _block(console, "The money hangs on (what self-hosting saves a month, modelled)", bars)


def _heard(advice: Advice, console: Console) -> None:
    agreed = [f"  {rule_text(one)}" for one in advice.opinions if one.agrees]
    many = f"{len(agreed)} of {len(advice.opinions)}; {advice.silent} others do not apply"
    _block(console, f"Rules of the documents that agree ({many})", agreed)
    against: dict[tuple[str, ...], list[str]] = {}
    for one in advice.opinions:
        if not one.agrees:
            against.setdefault(one.against, []).append(f"    {rule_text(one)}")
    lines = [line for reasons, rules in against.items() for line in (f"  because {'; '.join(reasons)}:", *rules)]
    _block(console, f"Rules that disagree ({len(advice.opinions) - len(agreed)})", lines)
    _block(console, "Where the documents contradict each other about this (quoted)", _contradictions(advice))


def _contradictions(advice: Advice) -> list[str]:
    groups: dict[str, dict[str, None]] = {}
    for conflict in advice.conflicts:
        sides = groups.setdefault(conflict.group.question, {})
        for side in (conflict.one, conflict.other):
            sides[f"{side_text(side, conflict.group.unit)} ({', '.join(side.claims)})"] = None
    return [f"  {question} {' against '.join(sides)}" for question, sides in groups.items()]


def rule_text(one: Opinion) -> str:
    """A rule with its place and how it was read."""
    rule = one.rule
    reading = f" ({rule.reading})" if rule.reading else ""
    return f"{rule.document}:{rule.lines} {rule.says}{reading}"


def _assumptions(advice: Advice) -> list[str]:
    rows = [(name, plain(held.value), f"{held.kind}, {held.source}") for name, held in advice.terms.given.items()]
    return [*_aligned(rows, left=3), "  and the inputs of `breakeven whatif`; --json lists them with their sources"]
