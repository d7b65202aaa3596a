"""The page: ten plots with their tables, the same bytes each time, nothing from outside, nothing invented."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.claims.judging import verdicts
from benchmarks.claims.reading import read_book
from benchmarks.errors import ResultsError
from benchmarks.experiments.results import read_experiment
from benchmarks.load.record import LoadResult
from benchmarks.origin import Origin
from benchmarks.prices import load_prices
from benchmarks.report.cases import cases
from benchmarks.report.content import Report, compose
from benchmarks.report.markdown import markdown
from benchmarks.report.page import html, pictured, write
from tests.benchmarks.report.made_results import GPU, ORIGIN, comparison, everything, sweep
from tests.benchmarks.report.made_results import write as write_results

BOOK, PRICES = read_book(), load_prices()
VERDICTS = verdicts(BOOK)
PLOTS = {"volume", "latency", "utilisation", "needed", "bill", "months", "winner", "tornado", "draws", "claims"}
ON_GPU = replace(ORIGIN, gpus=(GPU,), packages={"vllm": "0.26.0"})
VOID = {"meta", "br", "path", "use", "rect", "line", "circle"}


def made(tmp_path: Path, *files: tuple[Sequence[LoadResult], Origin]) -> Report:
    read = [
        read_experiment(write_results(tmp_path / f"r{number}.jsonl.gz", list(runs), origin))
        for number, (runs, origin) in enumerate(files)
    ]
    return compose(cases(read, PRICES), BOOK, VERDICTS, PRICES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return made(tmp_path_factory.mktemp("whole"), (everything(), ORIGIN))


class Page(HTMLParser):
    """What a browser would fetch, and what a screen reader would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.fetched: list[str] = []
        self.labels: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if identifier := held.get("id"):
            self.ids[identifier] += 1
        if tag in ("script", "link", "img", "iframe", "object", "image"):
            self.fetched.append(f"{tag} {held}")
        if tag == "svg":
            assert held["role"] == "img"
            self.labels.append(held["aria-labelledby"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_all_ten_plots_are_there_with_their_tables(whole: Report) -> None:
    shown = pictured(whole)
    assert {each.exhibit.id for _, each in shown} == PLOTS
    for _, each in shown:
        assert each.exhibit.table is not None
        assert {len(row) for row in each.exhibit.table.rows} == {len(each.exhibit.table.heading)}
        assert len(each.exhibit.alt) > 60
        assert re.search("measured|[Mm]odelled|calculated|computed", each.exhibit.known)


def test_the_first_screen_answers(whole: Report) -> None:
    first = whole.cases[0]
    assert [reply.question for reply in first.replies] == ["Does it pay?", "At what volume?", "How sure are we?"]
    assert first.headline.startswith("It pays from")
    assert first.plots[0].exhibit.id == "volume"
    text = html(whole)
    assert text.index("How sure are we?") < text.index("The plots")


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folder = tmp_path / name / "report"
        write(made(tmp_path / name, (everything(), ORIGIN)), folder)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0].keys() == {"index.html", "report.md", *(f"{name}.png" for name in PLOTS)}
    assert written[0] == written[1]


def test_the_page_needs_nothing_from_outside(whole: Report) -> None:
    text = html(whole)
    page = Page(text)
    assert page.fetched == []
    assert page.open == []
    assert not re.search(r"url\((?!#)|@import|src=", text)
    links = set(re.findall(r'href="([^"#][^"]*)"', text))
    assert links == {"../skeptic.md"}


def test_ids_are_unique_and_every_plot_has_its_words(whole: Report) -> None:
    page = Page(html(whole))
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert len(page.labels) == len(PLOTS)
    assert set(page.labels) <= page.ids.keys()


def test_plots_follow_light_and_dark(whole: Report) -> None:
    text = html(whole)
    assert "prefers-color-scheme: dark" in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#ffffff"}  # numbers on bars
    assert "var(--own)" in drawn


def test_two_machines_are_two_sections(tmp_path: Path) -> None:
    both = made(tmp_path, (everything(), ORIGIN), (sweep(), ON_GPU))
    assert [case.name.split(", ")[2] for case in both.cases] == ["NVIDIA A10G", "CPU (Made-up CPU"]
    page = Page(html(both))
    assert [name for name, count in page.ids.items() if count > 1] == []
    names = [f"{prefix}{shown.exhibit.id}" for prefix, shown in pictured(both)]
    assert len(names) == len(set(names))
    assert "m2-bill" in names


def test_what_is_not_measured_says_which_command_would(tmp_path: Path) -> None:
    held = made(tmp_path, (comparison("x", {"a": (0.1, 0.1), "b": (0.2, 0.2)}), ORIGIN))
    missing = [shown.exhibit for shown in held.cases[0].plots if shown.exhibit.missing]
    assert {exhibit.id for exhibit in missing} == PLOTS - {"claims"}
    assert all(exhibit.says.startswith("Not yet measured: ") and exhibit.command for exhibit in missing)
    text = html(held)
    assert text.count("Not yet measured: ") == len(missing)
    assert "Nobody can say yet" in text
    assert markdown(held).count("This would measure it: `breakeven experiment run") == len(missing)


def test_a_simulation_is_never_called_measured(tmp_path: Path) -> None:
    held = made(tmp_path, (everything("simulated"), ORIGIN))
    case = held.cases[0]
    assert case.simulated
    said = [shown.exhibit.known for shown in case.plots] + [value for fact in case.facts for value in fact]
    said += [text for text, _ in case.tables] + [line.kind for line in case.measures]
    assert not [text for text in said if re.search(r"\bmeasured", text.replace("not yet measured", ""))
                and "Nobody measured an A10G" not in text]  # fmt: skip
    assert 'class="caveat loud">SIMULATED' in html(held)
    assert "> SIMULATED" in markdown(held)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = replace(ORIGIN, cpu_model="<script>alert(1)</script>", command="x | y <b>")
    held = made(tmp_path, (everything(), hostile))
    assert "<script>" not in html(held)
    assert "&lt;script&gt;" in html(held)


def test_a_folder_that_cannot_be_written_is_a_mistake(whole: Report, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ResultsError, match="cannot write"):
        write(whole, file)


def test_markdown_has_every_picture_and_table(whole: Report) -> None:
    text = markdown(whole)
    assert set(re.findall(r"\]\((\w+)\.png\)", text)) == PLOTS
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
