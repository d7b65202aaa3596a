"""The live break-even in a terminal: one frame from the document that the gateway answers with."""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.economics.figures import KINDS
from benchmarks.economics.terminal import cents, plain, short, signed

_NARROW = 100
_MEASURED = (
    ("usd_per_query", "cost of a query", "idle time included"),
    ("usage_usd_per_query", "  of which the machine worked", ""),
    ("usd_per_answered", "cost of an answer", "idle time included"),
    ("effective_utilisation", "effective utilisation", "busy of billed time"),
    ("queries_per_month", "queries a month", "at this pace"),
)


def frame(document: Mapping[str, Any], where: str, width: int) -> RenderableType:
    """Everything an operator wants to see of it, in `width` columns."""
    parts: list[RenderableType] = [_head(document, where), Text()]
    if document["measured"]:
        parts += [_measured(document["measured"], width), Text()]
    if document["bill"]["billed_seconds"]:
        parts += [_bill(document["bill"]), Text()]
    if document["missing"]:
        missing = " and ".join(document["missing"])
        parts.append(Text.assemble(("Break-even: not yet measured: ", "bold"), f"{missing}."))
        return Group(*parts)
    parts += [_hosted(document["hosted"], width), Text()]
    parts += [Text(each["verdict"]) for each in document["hosted"]]
    kinds = Counter(held["kind"] for held in document["inputs"].values())
    known = ", ".join(f"{kinds[kind]} {kind}" for kind in (*KINDS, "simulated") if kinds[kind])
    assumed = [name for name, held in document["inputs"].items() if held["kind"] == "assumed" and _matters(held)]
    parts += [Text(), Text(f"Modelled from {known} inputs. Assumed: {', '.join(assumed)}.", style="dim")]
    parts += [Text(f"note: {note}", style="yellow") for note in document["notes"]]
    return Group(*parts)


def _head(document: Mapping[str, Any], where: str) -> Text:
    window, price = document["window"], document["price"]
    covered = _span(window["covered_seconds"])
    lines = Text.assemble(
        ("Breakeven ", "bold"),
        f"{where}  last {_span(window['asked_seconds'])}",
        f" ({covered} of it seen)" if window["covered_seconds"] < 0.99 * window["asked_seconds"] else "",
        f"\n{window['until'][:19].replace('T', ' ')} UTC  {price['id']} at ${price['usd_per_hour']} an hour, ",
        f"{price['basis']}, {price['as_of']}",
    )
    if document["engine_simulated"]:
        lines.append("\nThe engine is simulated: nothing here is real.", style="bold red")
    return lines


def _measured(measured: Mapping[str, Any], width: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    for name, words, note in _MEASURED:
        if (held := measured.get(name)) is None:
            continue
        ends = ""
        if held["low"] != held["high"]:
            ends = f"{_value(name, held['low'])} to {_value(name, held['high'])}"
        said = f"{held['kind']}, {note}" if note and width >= _NARROW else held["kind"]
        table.add_row(words, _value(name, held["value"]), ends, said)
    return table


def _bill(bill: Mapping[str, Any]) -> Text:
    parts = (
        ("requests", "requests_usd"),
        ("idle that nobody drew", "idle_not_drawn_usd"),
        ("in progress", "in_progress_usd"),
        ("lost", "lost_usd"),
        ("gateway down", "down_usd"),
    )
    said = " + ".join(
        f"{words} {_usd(bill[name])}" for words, name in parts if name == "requests_usd" or Decimal(bill[name])
    )
    return Text.assemble(("bill ", "bold"), f"{_usd(bill['billed_usd'])} = {said}")


def _hosted(hosted: list[Mapping[str, Any]], width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("modelled against", no_wrap=True, overflow="ellipsis")
    wide = width >= _NARROW
    headings = ("same traffic", "$/query", "pays from", "90 %", "saves/month", "payback", "draws")
    for heading in headings if wide else headings[1:6]:
        table.add_column(heading, justify="right", no_wrap=True)
    for each in hosted:
        where = each["break_even"]
        pays = "never" if where["never"] else _volume(where["safe_queries_per_month"])
        months = each["payback_months"]
        cells = (
            _usd(each["same_traffic_usd"]),
            cents(Decimal(each["usd_per_query"])),
            pays,
            _interval(where["safe_interval"]),
            signed(Decimal(each["saved_usd_per_month"])),
            f"month {months}" if months else f"> {each['payback_horizon_months']} mo",
            f"{each['pays_now_share_of_draws']:.0%}",
        )
        style = "green" if each["pays_now"] else ""
        table.add_row(Text(each["model"], style=style), *(cells if wide else cells[1:6]))
    return table


def _interval(found: Mapping[str, Any]) -> str:
    if found["p5"] is None:
        return "never"
    return f"{_volume(found['p5'])}-{_volume(found['p95']) if found['p95'] is not None else 'open'}"


def _value(name: str, number: str) -> str:
    value = Decimal(number)
    if name == "effective_utilisation":
        return f"{value:.1%}"
    return short(value) if name == "queries_per_month" else cents(value)


def _volume(queries: float | None) -> str:
    return "never" if queries is None else short(Decimal(queries))


def _usd(amount: str) -> str:
    usd = Decimal(amount)
    return f"{'-' if usd < 0 else ''}${plain(abs(usd))}"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def _matters(held: Mapping[str, Any]) -> bool:
    """An assumption that is varied: the others are choices."""
    return bool(held["low"] != held["high"])
