"""The command line's way to the adapter versions: through the gateway that runs on this state, or, if none does, to the
registry itself. Decisions are the same; only a gateway also loads and unloads, and tests canaries."""

import getpass
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from adapters.aliases import PROD
from adapters.audit import Cause
from adapters.registry import AdapterVersion, Registry
from retrieval.lock import OwnerLock
from serving.engine.device import detect
from serving.gateway import chosen_base
from serving.remote import RemoteGateway, quoted
from serving.rollout.desk import Desk, Wish
from serving.rollout.opening import open_desk
from serving.sections import Settings
from serving.settings import client_api_key


class Versions(Protocol):
    """The adapter versions of this state. All raise AdapterError or RemoteError."""

    def listing(self) -> list[dict[str, Any]]:
        """Every version."""

    def show(self, name: str) -> dict[str, Any]:
        """One adapter."""

    def promote(self, wish: Wish) -> Mapping[str, Any]:
        """Let an alias mean another version; `aliases` in the result is how it is now."""

    def rollback(self, name: str, alias: str, reason: str) -> Mapping[str, Any]:
        """Let prod mean what it meant before, or end a canary."""

    def remove(self, name: str, version: str, reason: str) -> None:
        """Delete a version."""


def open_versions(settings: Settings) -> Versions:
    """Through the running gateway, if there is one."""
    if url := _owner_url(settings):
        return _Remote(RemoteGateway(url, client_api_key()))
    return _Local(_desk(settings))


def add(settings: Settings, folder: Path, *, any_base: bool = False) -> AdapterVersion:
    """Install an adapter folder; with `any_base` also one for another base model than these settings serve.

    Raises AdapterError for what is refused at the door.
    """
    desk = open_desk(settings, None) if any_base else _desk(settings)
    return desk.registry.install(folder, desk.identity, desk.admits, Cause(who=_user(), reason="the first version"))


def next_step(settings: Settings, version: AdapterVersion) -> str | None:
    """What is left to do until an installed version answers; None: it does, or will at the next start."""
    prod = Registry(settings.home / "adapters").aliases(version.name).get(PROD)
    if prod == version.version and not _owner_url(settings):
        return None
    return f"To have it answer: breakeven adapters promote {version.engine_name}"


def _owner_url(settings: Settings) -> str:
    owner = OwnerLock(settings.home / "store.lock").owner()
    return owner.url if owner is not None and owner.url.startswith("http") else ""


def _desk(settings: Settings) -> Desk:
    return open_desk(settings, chosen_base(settings, detect()))


def _user() -> str:
    return f"command of {getpass.getuser()}"


class _Local:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def listing(self) -> list[dict[str, Any]]:
        return self._desk.listing()

    def show(self, name: str) -> dict[str, Any]:
        return {**self._desk.show(name), "trials": []}

    def promote(self, wish: Wish) -> Mapping[str, Any]:
        mine = replace(wish, who=_user())
        self._desk.promote(mine, self._desk.examine(mine))
        return {"aliases": self._desk.registry.aliases(wish.name)}

    def rollback(self, name: str, alias: str, reason: str) -> Mapping[str, Any]:
        self._desk.registry.rollback(name, alias, Cause(who=_user(), reason=reason))
        return {"aliases": self._desk.registry.aliases(name)}

    def remove(self, name: str, version: str, reason: str) -> None:
        self._desk.registry.remove(name, version, Cause(who=_user(), reason=reason))


class _Remote:
    def __init__(self, gateway: RemoteGateway) -> None:
        self._gateway = gateway

    def listing(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._gateway.call("GET", "adapters")["data"]
        return found

    def show(self, name: str) -> dict[str, Any]:
        return self._gateway.call("GET", f"adapters/{quoted(name)}")

    def promote(self, wish: Wish) -> Mapping[str, Any]:
        fields = {"version": wish.version, "alias": wish.alias, "reason": wish.reason, "force": wish.force}
        return self._gateway.call("POST", f"adapters/{quoted(wish.name)}/promote", json.dumps(fields).encode())

    def rollback(self, name: str, alias: str, reason: str) -> Mapping[str, Any]:
        body = json.dumps({"alias": alias, "reason": reason}).encode()
        return self._gateway.call("POST", f"adapters/{quoted(name)}/rollback", body)

    def remove(self, name: str, version: str, reason: str) -> None:
        query = urllib.parse.urlencode({"reason": reason})
        self._gateway.call("DELETE", f"adapters/{quoted(name)}/versions/{quoted(version)}?{query}")
