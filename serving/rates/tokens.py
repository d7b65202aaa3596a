"""How many tokens a request will take, before anybody knows, and what becomes of them when it has ended.

Held for a request are its prompt, about, and its answers to their limit, which the engine keeps. Where a request sets
no limit, and for what a served model adds to a prompt (its own system prompt, passages, a router's question), it is the
most that recent requests for that model took, faded by a hundredth with each that follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving import openai
from serving.accounting.record import RequestRecord, Tokens
from serving.rates.buckets import Bucket, Buckets

# Of a body's JSON: the usual rule for English. Its field names stand for what a chat template adds.
_BYTES_PER_TOKEN = 4
# Of an answer without a limit, before a model has given any.
_UNKNOWN = 256
_FADE = 0.99
# The newest name wins, as in the engine.
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Need:
    """What a request says that it wants: a prompt of about so many tokens, and so many answers of `most` tokens each,
    None if it sets no limit."""

    model: str
    prompt: int
    answers: int = 0
    most: int | None = None

    @property
    def stated(self) -> int:
        """All that it says."""
        return self.prompt + (self.most or 0) * self.answers


def need_of(fields: Mapping[str, Any], answers: int) -> Need:
    """Of a request's fields; embeddings have no answers. Raises BadRequest for what cannot be passed on at all."""
    prompt = -(-len(openai.encode(fields)) // _BYTES_PER_TOKEN)
    return Need(str(fields.get("model")), prompt, answers, _limit(fields))


def _limit(fields: Mapping[str, Any]) -> int | None:
    for name in _LIMITS:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


class Habits:
    """What recent requests took that they did not say, by the name they asked for."""

    def __init__(self) -> None:
        self._added: dict[str, float] = {}
        self._answered: dict[str, float] = {}

    def amount(self, need: Need) -> int:
        """What to hold."""
        each = self._answered.get(need.model, _UNKNOWN) if need.most is None else need.most
        return round(need.prompt + self._added.get(need.model, 0.0) + each * need.answers)

    def learn(self, need: Need, tokens: Tokens) -> None:
        """A request was answered, so its model's name is one that there is."""
        model, added = need.model, float(tokens.prompt - need.prompt)
        self._added[model] = max(added, _FADE * self._added.get(model, 0.0))
        if need.answers:
            answered = tokens.completion / need.answers
            self._answered[model] = max(answered, _FADE * self._answered.get(model, 0.0))


@dataclass(frozen=True, slots=True)
class Hold:
    """Tokens held for one request until its record, whose sink it is."""

    buckets: Buckets
    bucket: Bucket
    need: Need
    habits: Habits

    def record(self, record: RequestRecord) -> None:
        """See Sink. Of an answer that broke off what came counts, and its prompt."""
        tokens = record.tokens
        used = tokens.prompt + tokens.completion
        left = record.outcome == "cancelled" and record.times.engine_sent is not None
        if left and not record.stream:
            used = self.bucket.amount  # the engine worked, and nobody knows for how many tokens
        elif tokens.estimated and (tokens.completion or left):
            used += self.need.prompt
        elif record.outcome == "complete":
            self.habits.learn(self.need, tokens)
        self.buckets.settle(self.bucket, used)
