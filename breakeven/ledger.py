"""`breakeven ledger`: what every request cost, for other tools. Works beside a running gateway and without one."""

import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from breakeven.console import Config, console, output
from serving.accounting.ledger import export as exported
from serving.accounting.ledger import focus
from serving.accounting.ledger.database import Database, LedgerError
from serving.accounting.ledger.files import write_csv, write_parquet
from serving.accounting.ledger.opening import existing_database
from serving.accounting.ledger.scaling import changes
from serving.accounting.ledger.statement import statement
from serving.settings import load_settings

app = typer.Typer(help="Export what every request cost, and show how the fleet was scaled.", no_args_is_help=True)


class Format(StrEnum):
    """Of the export."""

    CSV = "csv"
    PARQUET = "parquet"
    FOCUS = "focus"


@app.command()
def export(
    format_: Annotated[Format, typer.Option("--format", help="focus: CSV in the columns of FOCUS 1.0.")] = Format.CSV,
    since: Annotated[str | None, typer.Option(help="From this time on, ISO 8601; UTC unless it says.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time.")] = None,
    to: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    config: Config = None,
) -> None:
    """Write every request of a time, with its cost by stage, and the rest of the bill: the sum is the bill."""
    settings = load_settings(config)
    if format_ is Format.PARQUET and to is None:
        raise LedgerError("Parquet is a file: say which with --to FILE")
    ledger = existing_database(settings.home, settings.database_url)
    if ledger is None:
        raise LedgerError(f"there is no ledger in {settings.home}: a gateway writes one while it runs")
    start = 0.0 if since is None else _moment(since)
    end = time.time() + 1 if until is None else _moment(until)
    if start >= end:
        raise LedgerError("--since must be before --until")
    try:
        count = _write(ledger, (start, end), format_, to)
        said = statement(ledger, start, end)
    finally:
        ledger.close()
    bill = f"${said.billed_usd:.10f} billed, ${said.difference_usd:.10f} of it in no row"
    console.print(f"{count} rows, {bill}")


@app.command()
def scaling(
    since: Annotated[str | None, typer.Option(help="From this time on, ISO 8601; UTC unless it says.")] = None,
    config: Config = None,
) -> None:
    """Show how many engines and gateways there were, as gateways with cost.engines_host saw it."""
    settings = load_settings(config)
    ledger = existing_database(settings.home, settings.database_url)
    if ledger is None:
        raise LedgerError(f"there is no ledger in {settings.home}: a gateway writes one while it runs")
    table = Table("at", "gateway", "engines", "gateways", "pays for")
    try:
        for each in changes(ledger, 0.0 if since is None else _moment(since), time.time() + 1):
            at = datetime.fromtimestamp(each.at, UTC).isoformat(timespec="seconds")
            table.add_row(at, each.gateway, str(each.engines), str(each.gateways), f"{each.accelerators:g}")
    finally:
        ledger.close()
    output.print(table)


def _write(ledger: Database, window: tuple[float, float], format_: Format, to: Path | None) -> int:
    lines = exported.lines(ledger, *window)
    if format_ is Format.PARQUET and to is not None:
        return write_parquet(lines, exported.COLUMNS, to)
    is_focus = format_ is Format.FOCUS
    rows, columns = (map(focus.focus, lines), focus.COLUMNS) if is_focus else (lines, exported.COLUMNS)
    if to is None:
        return write_csv(rows, columns, sys.stdout)
    with to.open("w", encoding="utf-8", newline="") as file:
        return write_csv(rows, columns, file)


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise LedgerError(f"{text!r} is no time; write 2026-11-20 or 2026-11-20T12:00:00+00:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
