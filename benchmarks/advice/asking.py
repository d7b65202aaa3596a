"""What is missing, asked for one question at a time; an empty answer takes the default, which then stays assumed."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.advice.needs import INPUTS, parse
from benchmarks.advice.terminal import value_text
from benchmarks.errors import AdviceError

# Shows a question with its default and returns what was typed.
Ask = Callable[[str, str], str]
Tell = Callable[[str], None]


def ask_missing(given: Mapping[str, Any], ask: Ask, tell: Tell) -> dict[str, str]:
    """Answers for the inputs that `given` lacks, but for those left at their default. Mistakes are asked again."""
    answers: dict[str, str] = {}
    for name, held in INPUTS.items():
        if name in given:
            continue
        default = value_text(held.default)
        while (said := ask(held.question, default).strip()) not in ("", default):
            try:
                parse(name, said)
            except AdviceError as error:
                tell(str(error))
                continue
            answers[name] = said
            break
    return answers
