"""How the plan's page writes tables and amounts."""

import textwrap
from collections.abc import Sequence
from decimal import Decimal


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def paragraph(text: str) -> str:
    """In lines that fit an editor, with an empty one after it."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def money(usd: Decimal) -> str:
    """Whole dollars."""
    return f"${usd:,.0f}"


def volume(queries: float) -> str:
    """A number of queries, short: 10M, 1B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if queries >= size:
            return f"{queries / size:.3g}{letter}"
    return f"{queries:.3g}"
