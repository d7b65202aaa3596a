"""What a window's traffic was like, in blocks: what the live break-even is computed from. Everything here may block."""

from collections import defaultdict
from dataclasses import dataclass

from serving.accounting.ledger.database import Database
from serving.accounting.ledger.statement import Statement, statement

BLOCK_S = 30.0
# More would make an interval slower, not better.
_MOST_BLOCKS = 500
_PERIODS = (
    "SELECT periods.ended_at, queries, answered, abstained, searched, prompt_tokens, cached_tokens, completion_tokens, "
    "periods.billed_s, periods.busy_s, periods.host_s FROM periods JOIN runs ON runs.run_id = periods.run_id "
    "WHERE periods.ended_at > ? AND periods.ended_at <= ? AND runs.simulated = ?"
)
_FIRST = (
    "SELECT MIN(periods.began_at) FROM periods JOIN runs ON runs.run_id = periods.run_id "
    "WHERE periods.ended_at > ? AND periods.ended_at <= ? AND runs.simulated = ?"
)


@dataclass(frozen=True, slots=True)
class Block:
    """Sums over a stretch of time; seconds of the machine. Queries are requests for an answer, embeddings are none."""

    queries: int = 0
    answered: int = 0
    abstained: int = 0
    searched: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    billed_s: float = 0.0
    busy_s: float = 0.0
    host_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """`asked_s`: the window asked for; `covered_s`: from the first thing in it to its end. `blocks` of `block_s`."""

    until: float
    asked_s: float
    covered_s: float
    block_s: float
    blocks: tuple[Block, ...]
    bill: Statement
    simulated: bool

    @property
    def whole(self) -> Block:
        """The sums of all blocks."""
        return Block(*(sum(column) for column in zip(*map(_values, self.blocks), strict=True)))


def traffic(ledger: Database, until: float, window_s: float, *, simulated: bool) -> Traffic:
    """The `window_s` seconds before `until` (since 1970), of gateways with a simulated engine or of real ones. Raises
    LedgerError."""
    bounds = (until - window_s, until, int(simulated))
    first = ledger.rows(_FIRST, bounds)[0][0]
    covered = 0.0 if first is None else until - max(first, until - window_s)
    block_s = max(BLOCK_S, covered / _MOST_BLOCKS)
    sums: dict[int, list[float]] = defaultdict(lambda: [0] * 10)
    for ended_at, *values in ledger.rows(_PERIODS, bounds):
        block = sums[int(ended_at // block_s)]
        for at, value in enumerate(values):
            block[at] += value
    bill = statement(ledger, until - window_s, until, simulated=simulated)
    blocks = tuple(Block(*map(int, each[:7]), *each[7:]) for _, each in sorted(sums.items()))
    return Traffic(until, window_s, covered, block_s, blocks, bill, simulated)


def _values(block: Block) -> tuple[float, ...]:
    counts = (block.queries, block.answered, block.abstained, block.searched)
    tokens = (block.prompt_tokens, block.cached_tokens, block.completion_tokens)
    return (*counts, *tokens, block.billed_s, block.busy_s, block.host_s)
