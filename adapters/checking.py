"""Checks a data set before time and money go into it: every line that is wrong, and what training will take.

Lengths and trained tokens come from the encoder that training uses, so a file that passes is a file that trains.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from adapters.dataset import Dataset, Example, Scan, scan_chat
from adapters.duplicates import Twin, contradictions, copies, leaks, near
from adapters.encoding import Encoded, Encoder
from adapters.findings import Finding, Report, Tokens
from adapters.privacy import sensitive

# A closed set of answers: each is short, and there are at least five examples of one on average.
_LABEL_CHARACTERS = 64
_EXAMPLES_PER_LABEL = 5
_UNEVEN = 10


def check(path: Path, validation: Path | None, encoder: Encoder, max_length: int, epochs: float) -> Report:
    """The report on the training set at `path`, yet without an estimate. Raises MalformedRecipe when it is not there.

    `max_length` is in tokens; `epochs` is only told.
    """
    scan = scan_chat(path, last="assistant")
    encoded, unfit = encoder.encode_all(scan.dataset)
    examples, file = scan.dataset.examples, path.name
    findings = [*_problems(scan), *(Finding("unfit", file, line, why) for line, why in unfit)]
    findings += _too_long(encoded, max_length, file)
    findings += _sensitive(examples, file)
    findings += _twins("copy", file, copies(examples), "the same as line {}")
    findings += _twins("contradiction", file, contradictions(examples), "asks what line {} asks, answers otherwise")
    findings += _twins("near-copy", file, near(examples), "nearly the same as line {} ({:.0%})")
    held = scan_chat(validation, last="assistant") if validation else None
    labels = _labels(examples)
    findings += _imbalance(labels, file)
    if held is not None and validation is not None:
        name = validation.name
        findings += [*_problems(held), *_sensitive(held.dataset.examples, name)]
        leaked = leaks(examples, held.dataset.examples)
        findings += _twins("leak", name, [twin for twin in leaked if twin.similarity == 1], f"asked in {file}:{{}}")
        alike = [twin for twin in leaked if twin.similarity < 1]
        findings += _twins("near-leak", name, alike, f"nearly the same as {file}:{{}} ({{:.0%}})")
        findings += _unknown_labels(labels, held.dataset, name)
    return Report(
        file=file,
        sha256=scan.dataset.sha256,
        examples=len(examples),
        validation=len(held.dataset.examples) if held else 0,
        labels=labels,
        tokens=_tokens([sequence for _, sequence in encoded]),
        findings=tuple(findings),
        epochs=epochs,
        max_length=max_length,
    )


def context_length(base_dir: Path) -> int:
    """The longest sequence the base model takes, in tokens; what a recipe's max_length may not exceed."""
    config = json.loads((base_dir / "config.json").read_text(encoding="utf-8"))
    return int(config["max_position_embeddings"])


def _problems(scan: Scan) -> Iterator[Finding]:
    return (Finding(each.fault, scan.dataset.path.name, each.line, each.why) for each in scan.problems)


def _too_long(encoded: Sequence[tuple[int, Encoded]], max_length: int, file: str) -> Iterator[Finding]:
    for line, sequence in encoded:
        if len(sequence.ids) > max_length:
            yield Finding("too-long", file, line, f"{len(sequence.ids):,} tokens, at most {max_length:,}")


def _sensitive(examples: Sequence[Example], file: str) -> Iterator[Finding]:
    for example in examples:
        text = "\n".join(f"{message.content}\n{list(message.tool_calls) or ''}" for message in example.messages)
        text += str(list(example.tools) or "")
        for found in dict.fromkeys(sensitive(text)):
            yield Finding(found.kind, file, example.line, f"{found.what}: {found.hint}")


def _twins(kind: str, file: str, twins: Sequence[Twin], message: str) -> Iterator[Finding]:
    return (Finding(kind, file, twin.line, message.format(twin.other, twin.similarity)) for twin in twins)


def _labels(examples: Sequence[Example]) -> dict[str, int]:
    """How often each answer is given, the most frequent first, if answers are a small closed set; else nothing."""
    counts = Counter(example.messages[-1].content.strip() for example in examples)
    closed = 1 < len(counts) <= len(examples) / _EXAMPLES_PER_LABEL and max(map(len, counts)) <= _LABEL_CHARACTERS
    return dict(counts.most_common()) if closed else {}


def _imbalance(labels: dict[str, int], file: str) -> Iterator[Finding]:
    if not labels:
        return
    most, times = next(iter(labels.items()))
    for label, count in labels.items():
        if count * _UNEVEN <= times:
            yield Finding("imbalance", file, 0, f"{label!r} has {count} examples, {most!r} has {times}")


def _unknown_labels(labels: dict[str, int], held: Dataset, file: str) -> Iterator[Finding]:
    for example in held.examples:
        label = example.messages[-1].content.strip()
        if labels and label not in labels:
            yield Finding("imbalance", file, example.line, f"{label!r} is in no training example")


def _tokens(encoded: Sequence[Encoded]) -> Tokens | None:
    if not encoded:
        return None
    lengths = np.array([len(sequence.ids) for sequence in encoded])
    # Of what there is, not between: each figure is the length of some example.
    p50, p95 = np.percentile(lengths, [50, 95], method="inverted_cdf")
    return Tokens(
        total=int(lengths.sum()),
        p50=int(p50),
        p95=int(p95),
        longest=int(lengths.max()),
        trained=sum(sequence.trained for sequence in encoded),
    )
