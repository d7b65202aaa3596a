"""The report as files: one HTML page without outside resources, Markdown, and the plots as pictures."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.errors import ResultsError
from benchmarks.report.content import Report, Shown
from benchmarks.report.exhibit import png
from benchmarks.report.markdown import markdown


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """Writes index.html, report.md and the plots. ResultsError when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page, text = folder / "index.html", folder / "report.md"
        page.write_text(html(report), encoding="utf-8")
        text.write_text(markdown(report), encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"cannot write {folder} ({error.strerror}); name another folder with --out") from error
    pictures = []
    for prefix, shown in pictured(report):
        pictures.append(folder / f"{prefix}{shown.exhibit.id}.png")
        png(shown.exhibit, pictures[-1])
    return (page, text, *pictures)


def pictured(report: Report) -> list[tuple[str, Shown]]:
    """Every plot with the beginning of its file's name; those of the first machine have none."""
    found = [
        ("" if number == 0 else f"{case.prefix}-", shown)
        for number, case in enumerate(report.cases)
        for shown in case.plots
    ]
    return [(prefix, shown) for prefix, shown in [*found, ("", report.claims)] if not shown.exhibit.missing]


def html(report: Report) -> str:
    """The page."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    first, *others = report.cases
    return environment.get_template("page.html").render(
        first=first,
        others=others,
        claims=report.claims,
        verdicts=report.verdicts,
        failing=report.failing,
        conflicts=report.conflicts,
        doubts=report.doubts,
    )
