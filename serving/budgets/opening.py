"""Budgets as the settings want them, begun with what the ledger says was spent."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Protocol

from serving.accounting.cost import GpuPrice
from serving.budgets.budgets import Budgets, quanta
from serving.budgets.purse import LocalPurse, Purse, Quanta
from serving.budgets.windows import Kind, Window
from serving.sections import Settings

# Retrieval, and an answer that is on its way when its time is up.
_BEFORE_S = 120.0


class SpentSince(Protocol):
    """The ledger, as far as budgets need it."""

    def __call__(self, since: float) -> Mapping[tuple[str, str], Decimal]:
        """US dollars of allocation cost by (tenant, key id), of requests that ended since; in any thread."""


async def open_budgets(
    stack: AsyncExitStack,
    settings: Settings,
    price: GpuPrice,
    spent: SpentSince,
    dearest: Callable[[], Decimal],
    accelerators: Callable[[], float],
    flush: Callable[[], None],
) -> Budgets:
    """A restart does not give a budget twice: what was spent in the present windows is read first. With a
    `database_url` the purse is there, for all gateways. Raises StoreUnavailable."""
    purse: Purse
    if settings.database_url is None:
        purse = local = LocalPurse(time.time)
        for (account, kind), amount in (await _spent(spent, local.windows)).items():
            local.begin(account, kind, amount)
    else:
        from serving.budgets.shared import shared_purse

        longest_s = settings.engine.request_timeout_s + settings.admission.objective_s + _BEFORE_S
        purse = shared = await stack.enter_async_context(shared_purse(settings.database_url, longest_s))
        await shared.begin(await _spent(spent, shared.windows))
    tenants = {name: tenant.budget for name, tenant in settings.tenants.items() if tenant.budget is not None}
    return Budgets(purse, settings.default_budget, tenants, price, dearest, accelerators, flush)


async def _spent(spent: SpentSince, windows: Mapping[Kind, Window]) -> Mapping[tuple[str, Kind], Quanta]:
    sums: Counter[tuple[str, Kind]] = Counter()
    for kind, at in windows.items():
        for (tenant, key_id), usd in (await asyncio.to_thread(spent, at.since)).items():
            for account in (f"tenant:{tenant}", f"key:{key_id}"):
                sums[account, kind] += quanta(usd)
    return sums
