"""What is spent and held, and the one decision that must not race: whether one more request may be held for.

Two numbers per account and window: *spent*, the true cost of requests that ended in it, and *held*, what requests that
run now are expected to cost at most. A hold is given if spent + held + hold stays within the budget. While nothing of
an account runs it gets one request as long as anything is left, so that the rest of a budget can be used. Hence,
however many ask at once:

    spent <= budget + (what running requests cost above their holds) + (at most one request, for the rest of a budget)

Amounts are whole tenths of a nano-dollar, the ledger's own quantum: sums of them are exact.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.budgets.windows import KINDS, Kind, Window, window

Quanta = int


@dataclass(frozen=True, slots=True)
class Limit:
    """What an account may spend in a window of this kind."""

    account: str
    kind: Kind
    most: Quanta


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing was held: the budget is `spent`, or its rest is held for requests that run."""

    limit: Limit
    window: Window
    # Seconds until its end.
    left_s: float
    spent: Quanta
    held: Quanta

    @property
    def exhausted(self) -> bool:
        """Only the end of the window, or a larger budget, will help."""
        return self.spent >= self.limit.most


@dataclass(frozen=True, slots=True)
class Balance:
    """An account in one window."""

    window: Window
    spent: Quanta
    held: Quanta


class Purse(Protocol):
    """Shared by all who spend from the same accounts. `LocalPurse` is for one gateway that does so alone, `SharedPurse`
    (shared.py) for several."""

    async def hold(self, request_id: str, limits: Sequence[Limit], amount: Quanta) -> Refused | None:
        """Hold `amount` in every account of `limits` for a request, or in none and say why."""

    def settle(self, request_id: str, accounts: Sequence[str], cost: Quanta) -> None:
        """The request ended and cost so much: nothing is held for it any more. Does not block."""

    def balance(self, account: str, kind: Kind) -> Balance:
        """What is known here of an account now."""

    async def refresh(self, accounts: Sequence[str]) -> None:
        """Know what others have spent from these."""


@dataclass(slots=True)
class Standing:
    """An account now: what is spent in each window, and what is held for how many requests."""

    spent: dict[Kind, Quanta] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    held: Quanta = 0
    running: int = 0


def decide(
    limits: Sequence[Limit],
    accounts: Mapping[str, Standing],
    amount: Quanta,
    windows: Mapping[Kind, Window],
    now: float,
) -> Refused | None:
    """The rule at the top of this module."""
    for limit in limits:
        account, at = accounts[limit.account], windows[limit.kind]
        spent = account.spent[limit.kind]
        if spent >= limit.most or (account.running and spent + account.held + amount > limit.most):
            return Refused(limit, at, at.until - now, spent, account.held)
    return None


class LocalPurse:
    """In memory, begun with what the ledger has. Belongs to the event loop. `clock` is seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, Standing] = {}
        self._holds: dict[str, tuple[Sequence[str], Quanta]] = {}
        self._windows = {kind: window(kind, clock()) for kind in KINDS}
        self._until = self._windows["day"].until

    @property
    def windows(self) -> dict[Kind, Window]:
        """Those of now."""
        self._turn()
        return self._windows

    def begin(self, account: str, kind: Kind, spent: Quanta) -> None:
        """What was spent in the present window before this process."""
        self._account(account).spent[kind] += spent

    async def hold(self, request_id: str, limits: Sequence[Limit], amount: Quanta) -> Refused | None:
        """See Purse. Decided without an await, so nothing comes between."""
        self._turn()
        accounts = {limit.account: self._account(limit.account) for limit in limits}
        if (refused := decide(limits, accounts, amount, self._windows, self._clock())) is not None:
            return refused
        for account in accounts.values():
            account.held += amount
            account.running += 1
        self._holds[request_id] = (tuple(accounts), amount)
        return None

    def settle(self, request_id: str, accounts: Sequence[str], cost: Quanta) -> None:
        """See Purse."""
        self._turn()
        names, amount = self._holds.pop(request_id, ((), 0))
        for name in names:
            account = self._account(name)
            account.held -= amount
            account.running -= 1
        for name in accounts:
            spent = self._account(name).spent
            for kind in KINDS:
                spent[kind] += cost

    def balance(self, account: str, kind: Kind) -> Balance:
        """See Purse."""
        self._turn()
        found = self._accounts.get(account) or Standing()
        return Balance(self._windows[kind], found.spent[kind], found.held)

    async def refresh(self, accounts: Sequence[str]) -> None:
        """See Purse: there are no others."""

    def _account(self, name: str) -> Standing:
        found = self._accounts.get(name)
        if found is None:
            found = self._accounts[name] = Standing()
        return found

    def _turn(self) -> None:
        # Forward only: a clock that is set back must not give a budget twice.
        if (now := self._clock()) < self._until:
            return
        for kind in KINDS:
            if now >= self._windows[kind].until:
                self._windows[kind] = window(kind, now)
                for account in self._accounts.values():
                    account.spent[kind] = 0
        self._until = self._windows["day"].until
