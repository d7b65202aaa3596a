"""What arrives: Poisson arrivals whose rate changes in steps, with made-up lengths and topics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scale_plan.replica import Request


@dataclass(frozen=True, slots=True)
class Shape:
    """Means of a query. `spread`: lengths vary (prompts by half either way, answers exponentially); else all are alike.

    `topics` are asked for by Zipf's law: the k-th most popular in proportion to 1/k.
    """

    prompt_tokens: float
    output_tokens: float
    spread: bool = True
    topics: int = 1


def requests(shape: Shape, rates: Sequence[float], each_s: float, seed: int) -> Iterator[Request]:
    """In order of time: `rates` per second, each for `each_s`."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, shape.topics + 1)
    shares = np.cumsum(weights / weights.sum())
    for step, rate in enumerate(rates):
        count = int(random.poisson(rate * each_s))
        times = np.sort(step * each_s + random.uniform(0, each_s, count))
        prompts = np.full(count, shape.prompt_tokens)
        outputs = np.full(count, shape.output_tokens)
        if shape.spread:
            prompts = prompts * random.uniform(0.5, 1.5, count)
            outputs = random.exponential(shape.output_tokens, count)
        topics = np.searchsorted(shares, random.uniform(0, shares[-1], count))
        columns = (times, np.maximum(1, np.rint(prompts)), np.maximum(1, np.rint(outputs)), topics)
        for at, prompt, output, topic in zip(*(column.tolist() for column in columns), strict=True):
            yield Request(at, int(prompt), int(output), int(topic))
