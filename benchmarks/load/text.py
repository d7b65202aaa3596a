"""Seeded text of a length in tokens: exact with the model's tokenizer, about right without one.

Random words, not repeats of one: a prefix cache must find nothing in it, and speculative decoding nothing to guess.
"""

import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.errors import PlanError

# Each is one token, with its leading space, in the SmolLM2 tokenizer. The usage in every answer says what was counted.
_WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research moment air teacher force education"
)


class Text:
    """Makes text. Without a tokenizer each word is taken for one token."""

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def from_model(cls, folder: Path) -> "Text":
        """With the tokenizer of a model folder (or a tokenizer.json). PlanError if there is none."""
        file = folder if folder.suffix == ".json" else folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # what the library raises, for a missing file too
            raise PlanError(f"cannot read the tokenizer {file} ({error}); give --tokenizer a model's folder") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer)

    @cached_property
    def _words(self) -> list[str]:
        """Those that are one token behind a space, of which a text of any length can be made."""
        words = _WORDS.split()
        if self._tokenizer is None:
            return words
        single = [word for word in words if self.count(f"{words[0]} {word}") == self.count(words[0]) + 1]
        if len(single) < len(words) / 2:
            raise PlanError("this tokenizer cuts common English words apart; leave --tokenizer out, and lengths vary")
        return single

    def of(self, tokens: int, seed: str) -> str:
        """Words that are so many tokens together; different ones for another seed."""
        # With the length in the seed, or short texts would be the beginnings of long ones.
        chosen = random.Random(f"{tokens}:{seed}").choices(self._words, k=tokens)
        while (text := " ".join(chosen)) and (excess := self.count(text) - tokens) > 0:
            del chosen[-excess:]
        return text

    def joined(self, parts: Sequence[str]) -> str:
        """As paragraphs."""
        return "\n\n".join(parts)

    def count(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        if self._tokenizer is None:
            return len(text.split())
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def counted(self, tokens: int) -> str:
        """A length in words: whether it is exact."""
        return f"{tokens} tokens" if self._tokenizer else f"about {tokens} tokens"
