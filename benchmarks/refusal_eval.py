"""How well the gate tells questions that the documents answer from others.

Ingests a set in SQuAD's layout through our own pipeline and takes the best score of each question, which is what the
gateway compares with the minimum score. Covered are questions that a paragraph answers; against them stand the
questions of other sets and, from the same set, two harder kinds: questions on articles that the search may not see,
and those made to look answerable.
"""

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.origin import Origin
from benchmarks.question_sets import QuestionSet, QuestionSetError, read_questions, read_squad
from benchmarks.result_file import keep
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.separation import Interval, Point, auroc, curve
from retrieval.store import EVERYONE, Store

DEFAULT_MINIMUM = 0.35  # retrieval.min_score
PRECISION = 0.9
OTHER_ARTICLES, LOOKALIKES = "questions on other articles", "questions that look answerable"
_SCOPE = Scope("evaluation", EVERYONE)
_KNOWLEDGE = "set"


@dataclass(frozen=True, slots=True)
class Contrast:
    """Covered questions against one kind of others. `at_default`: what the default minimum score does; `at_precision`:
    the lowest minimum at which 90 % of the answered ones are covered, both kinds being weighted as sampled."""

    against: str
    covered: int
    uncovered: int
    auroc: Interval
    at_default: Point
    at_precision: Point | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`passages` of the ingested paragraphs."""

    corpus: str
    paragraphs: int
    passages: int
    embedder: str
    sample: int
    seed: int
    contrasts: tuple[Contrast, ...]
    origin: Origin


def contrast(against: str, covered: Sequence[float], uncovered: Sequence[float]) -> Contrast:
    """From best scores."""
    points = list(curve(covered, uncovered))
    answered = sum(score >= DEFAULT_MINIMUM for score in covered)
    slips = sum(score >= DEFAULT_MINIMUM for score in uncovered)
    at_default = Point(
        DEFAULT_MINIMUM,
        round(answered / max(1, answered + slips), 4),
        round(answered / len(covered), 4),
        round(1 - slips / len(uncovered), 4),
    )
    precise = next((point for point in points if point.precision >= PRECISION), None)
    return Contrast(against, len(covered), len(uncovered), auroc(covered, uncovered), at_default, precise)


def evaluate(
    corpus: QuestionSet, against: Mapping[str, Sequence[str]], embedder: Embedder, progress: Progress, sample: int
) -> tuple[int, list[Contrast]]:
    """Passages, and a contrast for each kind; at most `sample` questions of a kind, drawn with seed 0."""
    chance = random.Random(0)  # noqa: S311  # repeatable is the point; no secrets
    articles = sorted({paragraph.article for paragraph in corpus.paragraphs})
    seen = set(chance.sample(articles, (len(articles) + 1) // 2))
    covered = _sampled(chance, list(corpus.answered), sample)
    inside, outside = ([text for text in covered if (corpus.answered[text] in seen) == half] for half in (True, False))
    others = {name: _sampled(chance, list(texts), sample) for name, texts in against.items()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), embedder.fingerprint, embedder.dimensions)
        try:
            retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
            for one in progress.track(corpus.paragraphs, description="ingesting"):
                half = {"half": "seen" if one.article in seen else "unseen"}
                retriever.ingest(_SCOPE, _KNOWLEDGE, one.source, one.markdown.encode(), attributes=half)

            def scores(kind: str, texts: Sequence[str], filter: Mapping[str, Any] | None = None) -> list[float]:
                asked = progress.track(texts, description=kind)
                found = [retriever.search(_SCOPE, _KNOWLEDGE, text, 1, -1.0, filter).best_score for text in asked]
                return [-1.0 if score is None else score for score in found]

            best = scores("covered", covered)
            contrasts = [contrast(name, best, scores(name, texts)) for name, texts in others.items()]
            if inside and outside:
                only = {"half": "seen"}
                known, unknown = scores("half seen", inside, only), scores("half unseen", outside, only)
                contrasts.append(contrast(OTHER_ARTICLES, known, unknown))
            if alike := _sampled(chance, list(corpus.unanswered), sample):
                contrasts.append(contrast(LOOKALIKES, best, scores(LOOKALIKES, alike)))
            return store.count(), contrasts
        finally:
            store.close()


def run(
    corpus: Path,
    against: Sequence[str],
    open_embedder: Callable[[], Embedder],
    sample: int,
    out: Path | None,
    output: Console,
) -> None:
    """Evaluates a set in SQuAD's layout against questions given as name=FILE, prints a table and writes `out`, a file.

    Raises QuestionSetError.
    """
    named = dict(one.partition("=")[::2] for one in against)
    if "" in named.values():
        raise QuestionSetError("--against takes name=FILE, such as banking77=test.csv")
    command = f"breakeven eval refusal {corpus.name}"
    command += "".join(f" --against {name}={Path(file).name}" for name, file in named.items())
    origin = Origin.here(f"{command} --sample {sample}")
    questions = {name: read_questions(Path(file)) for name, file in named.items()}
    found = read_squad(corpus)
    embedder = open_embedder()
    with Progress(console=Console(stderr=True)) as progress:
        passages, contrasts = evaluate(found, questions, embedder, progress, sample)
    result = Evaluation(
        corpus.name, len(found.paragraphs), passages, embedder.name, sample, 0, tuple(contrasts), origin
    )
    for table in _tables(result):
        output.print(table)
    keep(result, out)


def _sampled(chance: random.Random, texts: Sequence[str], most: int) -> list[str]:
    return chance.sample(texts, min(most, len(texts)))


def _tables(found: Evaluation) -> Iterator[Table]:
    title = f"{found.corpus}: {found.paragraphs} paragraphs, {found.passages} passages, {found.embedder}"
    separation = Table("covered against", "questions", "AUROC", "95 %", title=title, box=None)
    minima = Table("", "minimum", "precision", "answered", "refused", box=None)
    for one in found.contrasts:
        interval = f"{one.auroc.low:.4f} to {one.auroc.high:.4f}"
        separation.add_row(one.against, f"{one.covered} / {one.uncovered}", f"{one.auroc.value:.4f}", interval)
        for name, point in (("default", one.at_default), (f"precision {PRECISION}", one.at_precision)):
            shown = ["never"] if point is None else [f"{point.min_score:.3f}", f"{point.precision:.2f}"]
            shown += [] if point is None else [f"{point.answered:.0%}", f"{point.refused:.0%}"]
            minima.add_row(f"{one.against}, {name}", *shown)
    yield from (separation, minima)
