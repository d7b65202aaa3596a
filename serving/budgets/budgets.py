"""Budgets of keys and tenants: holds before a request is answered, and the true cost after it, as a sink of its record.

What is held for a request is what the dearest recent one of its tenant would have cost with the engine to itself,
because requests cost more as fewer others share the engine, which they do when a budget comes to its end. Before there
was one, it is the most that a request can cost at all. Costs are allocation costs, as in the ledger, and belong
to the window in which the request ends. Abstentions and broken-off answers count with what they cost.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from serving.accounting.cost import GpuPrice
from serving.accounting.record import RequestRecord
from serving.auth import Caller
from serving.budgets.purse import Limit, Purse, Quanta, Refused
from serving.budgets.windows import KINDS, Kind
from serving.errors import GatewayError, Overloaded
from serving.sharing import Budget

logger = logging.getLogger("breakeven.budgets")

# A tenth of a nano-dollar, see purse.py.
PER_USD = 10**10
WARNING_HEADER = "x-breakeven-budget-warning"
# Of the dearest request with each that follows: a hundred later a third is left.
_FADE = 0.99
_HELD_RETRY_S = 2.0


class QuotaExceeded(GatewayError):
    """A budget is spent; OpenAI's error for the same."""

    status = 429
    kind = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> dict[str, str]:
        """Tells OpenAI's client that asking again will not help."""
        return {**super().headers(), "x-should-retry": "false"}


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays, in the purse and in messages; `budget` is None where there is no limit."""

    scope: str
    name: str
    budget: Budget | None

    @property
    def id(self) -> str:
        """Its name in the purse."""
        return f"{self.scope}:{self.name}"

    def most(self, kind: Kind) -> Quanta | None:
        """The limit of a window, if there is one."""
        if self.budget is None:
            return None
        usd = self.budget.usd_per_day if kind == "day" else self.budget.usd_per_month
        return None if usd is None else quanta(usd)


class Budgets:
    """Belongs to the event loop. `dearest` is what one request can cost at most, in US dollars; `flush` brings the
    records that are on their way, before anything is decided or told."""

    def __init__(
        self,
        purse: Purse,
        default: Budget,
        tenants: Mapping[str, Budget],
        price: GpuPrice,
        dearest: Callable[[], Decimal],
        accelerators: Callable[[], float],
        flush: Callable[[], None],
    ) -> None:
        self.purse, self.tenants, self._default = purse, tenants, default
        self._per_second = float(price.usd_per_hour) / 3600 * PER_USD
        self._dearest, self._accelerators, self._flush = dearest, accelerators, flush
        # By tenant: what a request is likely to cost at most.
        self._likely: dict[str, float] = {}
        self._warned: dict[tuple[str, Kind], float] = {}
        self.refused: Counter[tuple[str, Kind]] = Counter()
        self.warnings: Counter[tuple[str, Kind]] = Counter()

    def accounts(self, caller: Caller) -> tuple[Account, Account]:
        """The key's and the tenant's, with what limits them now."""
        tenant = self.tenants.get(caller.tenant, self._default)
        return Account("key", caller.key_id, caller.budget), Account("tenant", caller.tenant, tenant)

    async def hold(self, caller: Caller, request_id: str) -> str | None:
        """Hold for one request, before anything is spent on it. Returns the warning that its answer should carry.

        Raises QuotaExceeded if a budget is spent, Overloaded if its rest is held for requests that are running.
        """
        tenant = self.tenants.get(caller.tenant, self._default)
        if tenant.unlimited and (caller.budget is None or caller.budget.unlimited):
            return None
        self._flush()
        accounts = self.accounts(caller)
        limits = [
            Limit(account.id, kind, most)
            for account in accounts
            for kind in KINDS
            if (most := account.most(kind)) is not None
        ]
        dearest = quanta(self._dearest())
        amount = min(dearest, round(self._likely.get(caller.tenant, dearest)))
        if (refused := await self.purse.hold(request_id, limits, amount)) is not None:
            raise self._refusal(refused)
        return self._warning(accounts, limits)

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        share, tenant = record.share, record.tenant
        cost = (share.busy_s + share.host_s + share.idle_s) * self._per_second
        if cost:
            self._likely[tenant] = max(cost, self._alone(record), _FADE * self._likely.get(tenant, 0.0))
        self.purse.settle(record.id, (f"key:{record.key_id}", f"tenant:{tenant}"), round(cost))

    def describe(self, account: Account) -> dict[str, Any]:
        """An account as JSON: each window with what is spent, held and allowed, as decimal strings of US dollars."""
        self._flush()
        shown: dict[str, Any] = {}
        for kind in KINDS:
            balance, most = self.purse.balance(account.id, kind), account.most(kind)
            shown[kind] = {
                "spent_usd": usd(balance.spent),
                "held_usd": usd(balance.held),
                "budget_usd": None if most is None else usd(most),
                "resets_at": balance.window.ends,
            }
        return {"id": account.name, **shown}

    def _alone(self, record: RequestRecord) -> float:
        times, share = record.times, record.share
        if times.engine_sent is None or not share.busy_s:
            return 0.0
        busy_s = (times.ended - times.engine_sent) * self._accelerators()
        return (busy_s * (1 + share.idle_s / share.busy_s) + share.host_s) * self._per_second

    def _refusal(self, refused: Refused) -> GatewayError:
        limit, ends = refused.limit, refused.window.ends
        scope = limit.account.partition(":")[0]
        self.refused[scope, limit.kind] += 1
        which = f"the budget of this {scope} for the {limit.kind}, {usd(limit.most)} USD,"
        if refused.exhausted:
            return QuotaExceeded(
                f"{which} is spent ({usd(refused.spent)} USD); it begins anew at {ends}. An operator can raise it: "
                + ("breakeven keys update --budget" if scope == "key" else "tenants in breakeven.yaml"),
                retry_after_s=refused.left_s,
            )
        return Overloaded(
            f"the rest of {which} is held for requests that are running; try again when they have ended",
            code="budget_held",
            retry_after_s=_HELD_RETRY_S,
        )

    def _warning(self, accounts: Sequence[Account], limits: Sequence[Limit]) -> str | None:
        budgets = {account.id: account for account in accounts}
        said = []
        for limit in limits:
            account = budgets[limit.account]
            balance = self.purse.balance(limit.account, limit.kind)
            if account.budget is None or balance.spent < account.budget.warn_at * limit.most:
                continue
            said.append(f"{account.scope} {limit.kind}: {usd(balance.spent)} of {usd(limit.most)} USD")
            if self._warned.get((limit.account, limit.kind)) != balance.window.since:
                self._warned[limit.account, limit.kind] = balance.window.since
                self.warnings[account.scope, limit.kind] += 1
                logger.warning("budget of %s %s: %s", account.scope, account.name, said[-1])
        return "; ".join(said) or None


def quanta(usd: Decimal) -> Quanta:
    """US dollars in tenths of nano-dollars, rounded."""
    return int((usd * PER_USD).to_integral_value())


def usd(amount: Quanta) -> str:
    """As a plain decimal string."""
    return format((Decimal(amount) / PER_USD).normalize(), "f")
