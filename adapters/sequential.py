"""Is the canary worse than prod, beyond chance, looked at after every single answer?

A test that is read again and again must not be a fixed-sample one. This is an e-process: a bet against "the canary is
not worse" that starts at 1, whose expectation never grows while that is true, and that therefore reaches 1/alpha with
a probability of at most alpha, whenever one looks and stops (Ville's inequality). The form is that of Turner, Ly and
Gruenwald, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping" (2024), for two
Bernoulli streams, mixed over a grid of alternatives (p, c) with c < p.

Why it holds. One block is `ratio` scores of prod and one of the canary, all in [0, 1]. For one alternative let
o = (ratio*p + c)/(ratio + 1), v = o(1-o), a = p - o > 0, so that c - o = -ratio*a, and let the block pay

    product over prod's scores y of (1 + (y-o)a/v)  times  (1 - (z-o)*ratio*a/v)  for the canary's score z.

Every factor is a likelihood ratio at 0 and at 1, so it is positive between. Scores are independent with means P and C,
so the expected pay is the same expression at y = P, z = C. It falls in C, so under "C >= P" it is at most its value at
C = P, which by the inequality of arithmetic and geometric means is at most
((ratio*(1+(P-o)a/v) + 1 - (P-o)*ratio*a/v)/(ratio+1))^(ratio+1) = 1. A mixture of such processes is one too.
Only means appear: scores between 0 and 1 are as good as votes up and down.
"""

import math
from collections import deque
from dataclasses import dataclass

_GRID = [0.05 + 0.1 * step for step in range(10)]
MAX_RATIO = 9


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen so far. `e_value` is the factor by which a bet on "the canary is worse" has grown at best."""

    prod_n: int
    prod_mean: float | None
    canary_n: int
    canary_mean: float | None
    e_value: float

    def worse(self, alpha: float) -> bool:
        """True at most in a share `alpha` of the canaries that are not worse."""
        return self.e_value >= 1 / alpha


class SequentialTest:
    """Feed it every score as it comes; `share` is the canary's part of the traffic."""

    def __init__(self, share: float) -> None:
        self._ratio = min(MAX_RATIO, max(1, round((1 - share) / share)))
        # Of each alternative (p, c): o and a/v.
        middles = [(p, (self._ratio * p + c) / (self._ratio + 1)) for p in _GRID for c in _GRID if c < p]
        self._bets = [(o, (p - o) / (o * (1 - o))) for p, o in middles]
        self._log = [0.0] * len(self._bets)
        self._best = 0.0
        self._waiting: dict[bool, deque[float]] = {False: deque(), True: deque()}
        self._count = {False: 0, True: 0}
        self._sum = {False: 0.0, True: 0.0}

    def observe(self, score: float, *, canary: bool) -> None:
        """One answer's score in [0, 1], of the canary or of prod. Raises ValueError outside that."""
        if not 0 <= score <= 1:
            raise ValueError(f"a score is from 0 to 1, not {score}")
        self._count[canary] += 1
        self._sum[canary] += score
        self._waiting[canary].append(score)
        prod, trial = self._waiting[False], self._waiting[True]
        while len(prod) >= self._ratio and trial:
            self._settle([prod.popleft() for _ in range(self._ratio)], trial.popleft())

    @property
    def evidence(self) -> Evidence:
        """Now."""
        means = {arm: self._sum[arm] / n if n else None for arm, n in self._count.items()}
        return Evidence(self._count[False], means[False], self._count[True], means[True], math.exp(self._best))

    @property
    def log_value(self) -> float:
        """Logarithm of what the bet is worth now; `e_value` is the best it ever was."""
        top = max(self._log)
        return top + math.log(sum(math.exp(each - top) for each in self._log) / len(self._log))

    def _settle(self, prod: list[float], trial: float) -> None:
        for at, (middle, stake) in enumerate(self._bets):
            paid = sum(math.log1p((score - middle) * stake) for score in prod)
            self._log[at] += paid + math.log1p(-(trial - middle) * stake * self._ratio)
        # The threshold may be crossed and left again between two looks: the best it ever was is what counts.
        self._best = max(self._best, min(self.log_value, 700.0))
