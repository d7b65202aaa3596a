"""How the simulator answers a request that is constrained to a choice: by shared words, with the probability that goes
with them. Its rule is as simple as that, so that tests can say beforehand what it will answer."""

import math
import re
from collections.abc import Mapping
from typing import Any

_WEIGHT = 10  # of each shared word, against 1 for every choice


def choose(request: Mapping[str, Any]) -> tuple[str, float] | None:
    """The choice and the logarithm of its probability; None if the request is free. The first of equals wins."""
    choices = (request.get("structured_outputs") or {}).get("choice")
    if not choices:
        return None
    asked = _words(str((request.get("messages") or [{}])[-1].get("content")))
    weights = [1 + _WEIGHT * len(_words(choice) & asked) for choice in choices]
    best = weights.index(max(weights))
    return choices[best], math.log(weights[best] / sum(weights))


def logprobs(text: str, logprob: float) -> dict[str, Any]:
    """As vLLM states them, with the whole answer as one token."""
    token = {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
    return {"content": [token]}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
