"""What should not be in a training set: a model repeats it to whoever asks.

Secrets are recognised by the shapes that their issuers gave them (as gitleaks and GitHub's secret scanning do), card
and bank numbers by their check digits, so that an order number is not taken for one. This finds what is obvious; that
it finds nothing does not mean that nothing is there. Findings never repeat what they found.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

_SECRETS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{82})\b",
    "GitLab token": r"\bglpat-[0-9A-Za-z_-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "Stripe key": r"\b[rs]k_live_[0-9A-Za-z]{16,}\b",
    "OpenAI or Anthropic key": r"\bsk-(?:[a-z]+[0-9]*-)*[0-9A-Za-z_-]{20,}",
    "Hugging Face token": r"\bhf_[0-9A-Za-z]{34}\b",
    "Breakeven key": r"\bbk-[0-9A-Za-z_-]{20,}",
    "JSON web token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}",
    "password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]{3,}@",
}
# Domains that RFC 2606 and RFC 6761 keep for examples belong to nobody.
_EMAIL = re.compile(
    r"\b[\w.+-]+@(?!(?:[\w-]+\.)*(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)(?![\w.-]*\w))[\w-]+(?:\.[\w-]+)+\b"
)
# In an international form, or written as numbers are only when they are to be dialled: a row of digits may be an order.
_PHONE = re.compile(
    r"(?<![\w+.-])(?<!\d )(?!\d\d[-/ ]\d\d[-/ ]\d{4}(?!\d))"  # not a date
    r"(?:\+[1-9](?:[ ()/.-]{0,2}\d){7,14}|\(?0[1-9]\d{0,3}\)?[ /-](?:\d[ -]?){5,9}\d"
    r"|(?:\(\d{3}\) ?|\d{3}-)\d{3}-\d{4})(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])[2-6]\d(?:[ -]?\d){11,17}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b")
_SECRET = re.compile("|".join(f"(?P<_{at}>{shape})" for at, shape in enumerate(_SECRETS.values())))


@dataclass(frozen=True, slots=True)
class Sensitive:
    """What was found, without saying it: `what` is its kind, `hint` its first characters and its length."""

    kind: Literal["secret", "personal"]
    what: str
    hint: str


def sensitive(text: str) -> Iterator[Sensitive]:
    """Secrets and obvious personal data in a text, in no particular order."""
    for match in _SECRET.finditer(text):
        yield Sensitive("secret", list(_SECRETS)[int(str(match.lastgroup)[1:])], _hint(match[0]))
    for match in _EMAIL.finditer(text):
        yield Sensitive("personal", "e-mail address", _hint(match[0]))
    numbers = [*_numbers(text)]
    yield from (Sensitive("personal", what, _hint(found)) for what, found, _ in numbers)
    for match in _PHONE.finditer(text):
        if not any(match.start() < end and start < match.end() for _, _, (start, end) in numbers):
            yield Sensitive("personal", "phone number", _hint(match[0]))


def _numbers(text: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    for match in _IBAN.finditer(text):
        # Words in capitals may follow it.
        groups = match[0].split(" ")
        for found in (" ".join(groups[:count]) for count in range(len(groups), 0, -1)):
            if _is_iban(found.replace(" ", "")):
                yield "IBAN", found, (match.start(), match.start() + len(found))
                break
    for match in _CARD.finditer(text):
        if _is_card(re.sub(r"\D", "", match[0])):
            yield "card number", match[0], match.span()


def _is_card(digits: str) -> bool:
    """The check digit of ISO/IEC 7812 (Luhn), and not one digit repeated."""
    doubled = [int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits))]
    return sum(each - 9 if each > 9 else each for each in doubled) % 10 == 0 and any(
        a != b for a, b in pairwise(digits)
    )


def _is_iban(text: str) -> bool:
    """The check digits of ISO 13616: moved to the end, with letters as numbers, the rest by 97 is 1."""
    return 15 <= len(text) <= 34 and int("".join(str(int(each, 36)) for each in text[4:] + text[:4])) % 97 == 1


def _hint(found: str) -> str:
    return f"{found[:3]}... ({len(found)} characters)"
