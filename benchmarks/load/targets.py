"""Who is asked and who asks: served models with their weights, and tenants by their keys."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import PlanError
from benchmarks.load.plan import Target, Tenant


def targets(models: Sequence[str]) -> tuple[Target, ...]:
    """Of `NAME` or `NAME=WEIGHT`: a mix of adapters is several of them. PlanError for a weight that is none."""
    found = []
    for model in models:
        name, _, weight = model.rpartition("=") if "=" in model else (model, "", "1")
        try:
            found.append(Target(name, float(weight)))
        except ValueError as error:
            raise PlanError(f"--model {model!r}: what follows = is a weight, such as support=3") from error
    return tuple(found)


def tenants(file: Path | None, key: str | None) -> tuple[Tenant, ...]:
    """Of a file with a key a line, perhaps behind a name and a blank; else the one key, if there is one.

    Requests are dealt out among them evenly, by the seed.
    """
    if file is None:
        return (Tenant("default", key),) if key else ()
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the keys file {file}: {error}") from error
    lines = [words for words in lines if words and not words[0].startswith("#")]
    if not lines or any(len(words) > 2 for words in lines):
        raise PlanError(f"{file} must have a key a line, or a name and a key")
    return tuple(Tenant(words[0] if len(words) == 2 else f"key-{at}", words[-1]) for at, words in enumerate(lines, 1))
