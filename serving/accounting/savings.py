"""What abstaining saves: modelled, because a request that the engine never saw cannot be measured.

The tokens are those that answers from documents of the same served model took of late (of all served models, until it
has given one); the price of a token is what those answers cost of late, by the time in which the hardware worked. Idle
time is left out: refusing a question does not make the hardware cheaper.
"""

from dataclasses import dataclass

from serving.accounting.record import RequestRecord

_FADE = 0.99  # of the past with each new answer: about the last hundred count


@dataclass(frozen=True, slots=True)
class Saved:
    """Modelled. `usd` on the usage basis."""

    tokens: float = 0.0
    usd: float = 0.0


@dataclass(slots=True)
class _Recent:
    answers: float = 0.0
    tokens: float = 0.0
    usd: float = 0.0

    def add(self, tokens: int, usd: float) -> None:
        self.answers = self.answers * _FADE + 1
        self.tokens = self.tokens * _FADE + tokens
        self.usd = self.usd * _FADE + usd


class AbstentionSavings:
    """Belongs to one sink."""

    def __init__(self) -> None:
        self._all = _Recent()
        self._models: dict[str, _Recent] = {}

    def observe(self, record: RequestRecord) -> Saved:
        """Learns from an answer; for an abstention, what it saved: nothing before the first answer."""
        if record.knowledge is None:
            return Saved()
        if record.outcome == "complete":
            tokens = record.tokens.prompt + record.tokens.completion
            usd = float(record.cost.usage_usd)
            for recent in (self._all, self._models.setdefault(record.model, _Recent())):
                recent.add(tokens, usd)
        if record.outcome != "abstained" or not self._all.tokens:
            return Saved()
        own = self._models.get(record.model, self._all)
        tokens_each = own.tokens / own.answers
        return Saved(tokens_each, tokens_each * self._all.usd / self._all.tokens)
