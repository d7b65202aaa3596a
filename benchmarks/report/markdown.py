"""The report as Markdown, for wherever a page cannot be shown. The pictures stand beside it."""

from collections.abc import Iterator, Sequence

from benchmarks.report.content import CasePage, Report, Shown
from benchmarks.report.exhibit import Exhibit, Table


def markdown(report: Report) -> str:
    """The whole report."""
    first, *others = report.cases
    parts = [f"# {first.headline}", *_case(first, "")]
    for case in others:
        parts += [f"## {case.name}", f"**{case.headline}**", *_case(case, f"{case.prefix}-")]
    parts += [
        "## The documents' claims",
        *_plot(report.claims, ""),
        "The verdict of each, with its reason: docs/claims.md.",
        "## What these numbers do not cover",
        "\n".join(f"- {doubt}" for doubt in report.doubts),
        "More of the same, frankly: [docs/skeptic.md](../skeptic.md).",
    ]
    return "\n\n".join(parts) + "\n"


def _case(case: CasePage, prefix: str) -> Iterator[str]:
    yield f"{case.day}: {case.name}"
    yield f"> {case.caveat}"
    for reply in case.replies:
        yield f"**{reply.question}** {reply.big} ({reply.kind}). {reply.says}"
    if case.compared.rows:
        yield f"Against each hosted model; the saving is at {case.volume}:"
        yield _table(case.compared)
    for shown in case.plots:
        yield from _plot(shown, prefix)
    yield "### What was measured, and how"
    yield "\n".join(f"- {name}: {value}" for name, value in (*case.facts, *(("note", note) for note in case.notes)))
    for said, table in case.tables:
        yield said
        yield _table(table)
    if case.measures:
        yield "### Every input, and how it is known"
        rows = tuple((line.what, line.value, line.kind, line.source) for line in case.measures)
        yield _table(Table(("input", "value", "kind", "source"), rows))


def _plot(shown: Shown, prefix: str) -> Iterator[str]:
    exhibit: Exhibit = shown.exhibit
    yield f"### {exhibit.title}"
    yield exhibit.says
    if exhibit.missing:
        yield f"This would measure it: `{exhibit.command}`"
        return
    yield f"![{exhibit.alt}]({prefix}{exhibit.id}.png)"
    yield f"*{exhibit.known}*"
    if exhibit.table:
        yield f"<details><summary>The numbers behind it</summary>\n\n{_table(exhibit.table)}\n\n</details>"


def _table(table: Table) -> str:
    lines: list[Sequence[str]] = [table.heading, ["---"] * len(table.heading), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
