"""Budgets for Prometheus, read when scraped.

Tenants have series only if the settings name them with a budget, so that there are no more of them than somebody wrote
down; keys have none of their own.
"""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.budgets.budgets import Account, Budgets
from serving.budgets.windows import KINDS

_SCOPES = ("key", "tenant")


class BudgetCollector(Collector):
    """What budgets refused and warned of, and how far those of the settings are used."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    def collect(self) -> Iterable[Metric]:
        """Metric families of the budgets."""
        budgets = self._budgets
        used = GaugeMetricFamily(
            "breakeven_budget_used_ratio", "Share of a tenant's budget that is spent", labels=["tenant", "window"]
        )
        for name, budget in budgets.tenants.items():
            account = Account("tenant", name, budget)
            for kind in KINDS:
                if most := account.most(kind):
                    used.add_metric([name, kind], budgets.purse.balance(account.id, kind).spent / most)
        yield used
        for name, meaning, counts in (
            ("breakeven_budget_refused", "Requests refused because of a budget", budgets.refused),
            ("breakeven_budget_warnings", "Budgets that came to their warning, once per window", budgets.warnings),
        ):
            family = CounterMetricFamily(name, meaning, labels=["scope", "window"])
            for scope in _SCOPES:
                for kind in KINDS:
                    family.add_metric([scope, kind], counts[scope, kind])
            yield family
