"""Decisions about adapter versions, on the registry alone: the same with a gateway around it and without one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters import gate
from adapters.aliases import CANARY, PROD
from adapters.audit import Cause
from adapters.errors import PromotionRefused
from adapters.gate import Finding, Limit
from adapters.manifest import BaseModel
from adapters.registry import AdapterVersion, Registry
from serving.accounting.ledger.opening import existing_database
from serving.accounting.recent import usage
from serving.models import require_base, split_reference
from serving.sections import Gate, Settings

_DAYS = 7  # of requests that `show` sums up


@dataclass(frozen=True, slots=True)
class Wish:
    """Let `alias` of the adapter `name` mean `version` (a version id or another alias)."""

    name: str
    version: str
    alias: str
    who: str
    reason: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class Examined:
    """A version that may be promoted, and what is to be recorded about it."""

    version: AdapterVersion
    cause: Cause


class Desk:
    """Reads and writes the registry; `base` is the name and `identity` the content of the base model, if known."""

    def __init__(self, registry: Registry, settings: Settings, base: str | None, identity: BaseModel | None) -> None:
        self.registry, self._settings = registry, settings
        self._base, self.identity = base, identity

    def resolve(self, reference: str) -> AdapterVersion:
        """An installed version for this base model. Raises UnknownAdapter, TamperedAdapter, WrongBase."""
        version = self.registry.resolve(reference)
        if self._base is not None:
            require_base(version, self._base, self.identity)
        return version

    def examine(self, wish: Wish) -> Examined:
        """Raises PromotionRefused with a table (and puts that into the audit log), WrongBase, UnknownAdapter."""
        version = self.resolve(f"{wish.name}@{wish.version}")
        if wish.force and not wish.reason.strip():
            raise PromotionRefused("to promote by force, say why: the reason is kept in the audit log")
        found = {model: gate.examine(version.manifest, limits) for model, limits in self._limits(wish).items()}
        seen = {"gate": [{"model": model, **each.as_dict()} for model, all_of in found.items() for each in all_of]}
        missed = [model for model, all_of in found.items() if not all(each.passed for each in all_of)]
        forced = bool(missed) and wish.force
        if missed and not wish.force:
            self.registry.refused(
                wish.name, version.version, wish.alias, Cause(who=wish.who, reason=wish.reason, seen=seen)
            )
            raise PromotionRefused(_table(version, {model: found[model] for model in missed}), seen["gate"])
        seen["scores"] = [asdict(each) for each in version.manifest.measured]
        return Examined(version, Cause(who=wish.who, reason=wish.reason, forced=forced, seen=seen))

    def promote(self, wish: Wish, examined: Examined) -> None:
        """Change the alias. A canary that becomes prod is none any more."""
        version = examined.version.version
        self.registry.promote(wish.name, version, wish.alias, examined.cause)
        if wish.alias == PROD and self.registry.aliases(wish.name).get(CANARY) == version:
            self.registry.rollback(wish.name, CANARY, Cause(who=wish.who, reason="it became prod"))

    def admits(self, version: AdapterVersion) -> bool:
        """Whether the first version of a name may be prod without anyone asking."""
        limits = self._limits(Wish(version.name, version.version, PROD, ""))
        return all(each.passed for some in limits.values() for each in gate.examine(version.manifest, some))

    def listing(self) -> list[dict[str, Any]]:
        """Every installed version with its aliases."""
        return [self._line(name, version) for name in self.registry.names() for version in self.registry.versions(name)]

    def show(self, name: str) -> dict[str, Any]:
        """One adapter: its versions with manifests and costs, its aliases, its decisions. Raises UnknownAdapter."""
        versions = self.registry.versions(name)
        if not versions:
            self.registry.resolve(name)
        ledger = existing_database(self._settings.home, self._settings.database_url)
        since = time.time() - _DAYS * 86_400
        manifests = [
            {
                **self._line(name, version),
                "manifest": asdict(self.registry.resolve(f"{name}@{version}").manifest),
                "usage": {"days": _DAYS, **asdict(usage(ledger, f"{name}@{version}", since))},
            }
            for version in versions
        ]
        decisions = self.registry.log.decisions(name)
        return {"name": name, "aliases": self.registry.aliases(name), "versions": manifests, "decisions": decisions}

    def _line(self, name: str, version: str) -> dict[str, Any]:
        found = self.registry.resolve(f"{name}@{version}")
        aliases = sorted(alias for alias, target in self.registry.aliases(name).items() if target == version)
        manifest = found.manifest
        return {
            "id": found.engine_name,
            "object": "adapter_version",
            "aliases": aliases,
            "base_model": manifest.base_model,
            "rank": found.rank,
            "created": manifest.created,
            "scores": {each.name: each.value for each in manifest.measured},
        }

    def _limits(self, wish: Wish) -> Mapping[str, Sequence[Limit]]:
        """Served model -> its limits, of those that this promotion would change."""
        found = {}
        for model, entry in self._settings.models.items():
            name, alias = split_reference(entry.adapter) if entry.adapter is not None else ("", None)
            if name == wish.name and (alias == wish.alias or (alias == PROD and wish.alias == CANARY)):
                found[model] = limits_of(entry.gate)
        return found


def limits_of(wish: Gate) -> tuple[Limit, ...]:
    """The limits of a served model's gate."""
    most = {gate.FORGETTING: wish.max_forgetting, gate.LATENCY: wish.max_latency_s, gate.COST: wish.max_cost_usd}
    least = tuple(Limit(name, "at least", value) for name, value in wish.min_scores.items())
    return least + tuple(Limit(name, "at most", value) for name, value in most.items() if value is not None)


def _table(version: AdapterVersion, missed: Mapping[str, Sequence[Finding]]) -> str:
    tables = "\n".join(f"served model {model}:\n{gate.table(found)}" for model, found in missed.items())
    return (
        f"{version.engine_name} is not promoted: it misses what breakeven.yaml asks for.\n{tables}\n"
        "Evaluate it, train a better one, or promote it all the same with a reason (--force --reason TEXT)."
    )
