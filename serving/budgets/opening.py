"""Budgets as the settings want them, begun with what the ledger says was spent."""

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from prometheus_client import CollectorRegistry

from serving.accounting.cost import GpuPrice
from serving.budgets.budgets import Budgets, quanta
from serving.budgets.metrics import BudgetCollector
from serving.budgets.purse import LocalPurse
from serving.budgets.windows import KINDS
from serving.sections import Settings


class SpentSince(Protocol):
    """The ledger, as far as budgets need it."""

    def __call__(self, since: float) -> Mapping[tuple[str, str], Decimal]:
        """US dollars of allocation cost by (tenant, key id), of requests that ended since; in any thread."""


async def open_budgets(
    settings: Settings,
    price: GpuPrice,
    spent: SpentSince,
    dearest: Callable[[], Decimal],
    accelerators: int,
    registry: CollectorRegistry,
) -> Budgets:
    """A restart does not give a budget twice: what was spent in the present windows is read first."""
    purse = LocalPurse(time.time)
    for kind in KINDS:
        for (tenant, key_id), usd in (await asyncio.to_thread(spent, purse.windows[kind].since)).items():
            for account in (f"tenant:{tenant}", f"key:{key_id}"):
                purse.begin(account, kind, quanta(usd))
    tenants = {name: tenant.budget for name, tenant in settings.tenants.items() if tenant.budget is not None}
    budgets = Budgets(purse, settings.default_budget, tenants, price, dearest, accelerators)
    registry.register(BudgetCollector(budgets))
    return budgets
