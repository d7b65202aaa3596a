"""The installed adapters: immutable versions under one folder, and aliases that say which one is served.

Layout: root/<name>/<version>/ with an adapter's three files (manifest.py), root/<name>/aliases.json, root/audit.jsonl.
Only what is found here reaches the engine: vLLM would load pickles, follow links and join a client's text to a path.
Versions are content hashes because the engine keeps the prefix cache of a name whose weights are replaced.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

from adapters.aliases import ANYTHING, PROD, Aliases, sync_folder, write_whole
from adapters.audit import AuditLog, Cause
from adapters.errors import TamperedAdapter, UnknownAdapter, UnsafeAdapter, VersionInUse
from adapters.manifest import (
    ADAPTER_FILES,
    CONFIG,
    MANIFEST,
    NAME_PATTERN,
    VERSION_PATTERN,
    WEIGHTS,
    BaseModel,
    Manifest,
    Measurement,
    Score,
    content_version,
)

_T = TypeVar("_T", Score, Measurement)
# What peft can train and vLLM cannot serve: it would be left out in silence, or stop a request.
_UNSUPPORTED = (
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "layer_replication", "modules_to_save", "bias"),
    *("rank_pattern", "alpha_pattern", "alora_invocation_tokens"),
)
_INSTALLED = Cause(who="installation", reason="the first version")


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One verified version; `path` is the folder for the engine, `rank` the LoRA rank it must be started with."""

    name: str
    version: str
    path: Path
    manifest: Manifest
    rank: int

    @property
    def engine_name(self) -> str:
        """What vLLM knows it by; never reused for other weights."""
        return f"{self.name}@{self.version}"


class Registry:
    """Safe at any time for any number of processes: versions never change, aliases change under a lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._aliases = Aliases(root)

    @property
    def log(self) -> AuditLog:
        """Every decision about aliases and versions."""
        return self._aliases.log

    def names(self) -> tuple[str, ...]:
        """Sorted names that have at least one version."""
        if not self.root.is_dir():
            return ()
        found = (path.name for path in self.root.iterdir() if _matches(NAME_PATTERN, path.name))
        return tuple(sorted(name for name in found if self.versions(name)))

    def versions(self, name: str) -> tuple[str, ...]:
        """Sorted version ids of `name`, unverified; empty when there is none."""
        folder = self.root / name
        if not _matches(NAME_PATTERN, name) or not folder.is_dir():
            return ()
        return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and _matches(VERSION_PATTERN, p.name)))

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version id, as promoted."""
        return self._aliases.of(name)

    def state(self) -> dict[str, dict[str, str]]:
        """Name -> its aliases. Read anew each time: a network filesystem may keep times and sizes back, but not what
        is in a file that is opened. Raises TamperedAdapter."""
        return {name: self.aliases(name) for name in self.names()}

    def install(
        self,
        folder: Path,
        base: BaseModel | None = None,
        admit: Callable[[AdapterVersion], bool] = lambda _: True,
        cause: Cause = _INSTALLED,
    ) -> AdapterVersion:
        """Copy an adapter in, complete and verified or not at all; installing it again changes nothing.

        The first version of a name becomes `prod` if `admit` lets it. With `base`, one that was trained on another
        base model is refused. Raises UnsafeAdapter, MalformedManifest, TamperedAdapter, WrongBase.
        """
        _refuse_unexpected(folder)
        with self._scratch() as scratch:
            for name in ADAPTER_FILES:
                shutil.copyfile(folder / name, scratch / name, follow_symlinks=False)
            # The copy is verified, not the original: that one may change while it is being read.
            incoming = _open(scratch)
            from adapters.tensors import check_tensors

            check_tensors(scratch / WEIGHTS, incoming.rank)
            if base is not None:
                incoming.manifest.require_base(base)
            target = self.root / incoming.name / incoming.version
            target.parent.mkdir(exist_ok=True)
            if not target.exists():
                _move(scratch, target)
        installed = self._verified(incoming.name, incoming.version)
        if PROD not in self.aliases(installed.name) and admit(installed):
            self._aliases.change(installed.name, PROD, installed.version, "install", cause, only_from=None)
        return installed

    def promote(self, name: str, version: str, alias: str = PROD, cause: Cause | None = None) -> AdapterVersion:
        """Let `alias` mean this version from now on. Raises UnknownAdapter, TamperedAdapter, UnsafeAdapter."""
        promoted = self._verified(name, version)
        self._aliases.change(name, alias, version, "promote", cause or Cause(who="program"))
        return promoted

    def rollback(self, name: str, alias: str, cause: Cause, present: str | None = None) -> str | None:
        """Let `alias` mean what it meant before; a canary ends instead, which returns None. With `present` only if it
        still means that version. Raises UnknownAdapter."""
        if alias not in self.aliases(name):
            raise UnknownAdapter(f"{name} has no alias {alias!r}: `breakeven adapters list` shows what there is")
        version = self.previous(name, alias)
        if alias == PROD and version is None:
            raise UnknownAdapter(
                f"{name}@{PROD} has no earlier version that is still installed: promote another version instead"
            )
        self._aliases.change(name, alias, version, "rollback", cause, only_from=present or ANYTHING)
        return version

    def previous(self, name: str, alias: str) -> str | None:
        """What a roll-back of `alias` returns to."""
        return self._aliases.previous(name, alias, self.versions(name)) if alias == PROD else None

    def since(self, name: str, alias: str) -> str | None:
        """When `alias` came to mean its present version, as the audit log has it."""
        found = self._aliases.since(name, alias)
        return None if found is None else str(found["at"])

    def refused(self, name: str, version: str, alias: str, cause: Cause) -> None:
        """Put a promotion that was not made into the audit log."""
        with self._aliases.locked():
            self._aliases.record("refuse", name, alias, (self.aliases(name).get(alias), version), cause)

    def remove(self, name: str, version: str, cause: Cause) -> None:
        """Delete a version for good. Raises UnknownAdapter, and VersionInUse while an alias means it."""
        if version not in self.versions(name):
            self._verified(name, version)
        with self._aliases.locked(), self._scratch() as scratch:
            if using := sorted(alias for alias, each in self.aliases(name).items() if each == version):
                raise VersionInUse(
                    f"{name}@{version} is {' and '.join(using)}: promote another version or roll back, then remove it"
                )
            self._aliases.record("remove", name, None, (version, None), cause)
            (self.root / name / version).rename(scratch / version)

    def annotate(
        self, name: str, version: str, scores: Sequence[Score] = (), measurements: Sequence[Measurement] = ()
    ) -> AdapterVersion:
        """Put results of an evaluation into the manifest, in place of those of the same names. Raises AdapterError."""
        with self._aliases.locked():
            found = self._verified(name, version)
            manifest = found.manifest
            fresh = replace(
                manifest,
                scores=_merged(manifest.scores, scores),
                measurements=_merged(manifest.measurements, measurements),
            )
            write_whole(found.path / MANIFEST, Manifest.from_json(fresh.to_json()).to_json(), self.root)
            return replace(found, manifest=fresh)

    def resolve(self, reference: str) -> AdapterVersion:
        """`support` (its prod version), `support@<version>` or `support@<alias>`, verified against its hashes.

        Raises UnknownAdapter, TamperedAdapter.
        """
        name, separator, pinned = reference.partition("@")
        wanted = pinned if separator else PROD
        if self.versions(name) and not _matches(VERSION_PATTERN, wanted):
            wanted = self.aliases(name).get(wanted, "")
        return self._verified(name, wanted)

    def _verified(self, name: str, version: str) -> AdapterVersion:
        if version not in self.versions(name):
            known = ", ".join(f"{name}@{version}" for name in self.names() for version in self.versions(name))
            raise UnknownAdapter(
                f"no adapter {name!r} with that version or alias is installed; installed: {known or 'none'}; "
                "train and install one with `breakeven train PATH`"
            )
        folder = self.root / name / version
        try:
            found = _open(folder)
        except UnsafeAdapter as error:
            raise TamperedAdapter(f"{error}; remove {folder} and install the adapter again") from None
        if (found.name, found.version) != (name, version):
            raise TamperedAdapter(
                f"{folder} holds {found.name}@{found.version}: remove the folder and install the adapter again"
            )
        return found

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=".install-", dir=self.root))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _open(folder: Path) -> AdapterVersion:
    """Read one adapter folder, trusting nothing in it."""
    _refuse_unexpected(folder)
    manifest = Manifest.read(folder)
    found = content_version(folder)
    if found != manifest.version:
        raise TamperedAdapter(
            f"{folder} was changed: its files hash to {found}, its manifest says {manifest.version}; "
            "remove the folder and install the adapter again from a good copy"
        )
    from adapters.tensors import check_readable

    check_readable(folder / WEIGHTS)
    return AdapterVersion(manifest.name, manifest.version, folder, manifest, _rank(folder / CONFIG))


def _rank(config: Path) -> int:
    try:
        stated = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        stated = None
    rank = stated.get("r") if isinstance(stated, dict) and stated.get("peft_type") == "LORA" else None
    if not isinstance(stated, dict) or not isinstance(rank, int) or rank < 1:
        raise UnsafeAdapter(f"{CONFIG} is not the config of a LoRA adapter with a rank `r`: train it with peft")
    if odd := sorted(key for key in _UNSUPPORTED if stated.get(key) not in (None, False, "none", [], {})):
        raise UnsafeAdapter(f"{CONFIG} asks for {', '.join(odd)}, which the engine does not serve: train without")
    for key in ("base_model_name_or_path", "revision"):
        # A name for people. A path would tell one machine's layout, or lead a loader somewhere else.
        value = str(stated.get(key) or "")
        if value.startswith(("/", "~", "\\")) or ".." in value.replace("\\", "/").split("/") or "://" in value:
            raise UnsafeAdapter(f"{CONFIG} holds the path {value[:80]!r} in {key}: put the base model's name there")
    return rank


def _refuse_unexpected(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise UnsafeAdapter(f"{folder} is not a folder: give the folder that `breakeven train` wrote")
    for path in folder.iterdir():
        if path.name not in ADAPTER_FILES:
            raise UnsafeAdapter(
                f"{folder} holds {path.name!r}: an adapter is exactly {', '.join(sorted(ADAPTER_FILES))} "
                "(safetensors only, no pickled .bin or .pt); remove it"
            )
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UnsafeAdapter(f"{path} is not a plain file: replace the link by the file itself")
    missing = ADAPTER_FILES - {path.name for path in folder.iterdir()}
    if missing:
        lacks = ", ".join(sorted(missing))
        raise UnsafeAdapter(f"{folder} lacks {lacks}: give the folder that `breakeven train` wrote")


def _move(scratch: Path, target: Path) -> None:
    for path in scratch.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    scratch.chmod(0o755)
    try:
        scratch.rename(target)
    except OSError:
        # Another process installed the same version in the meantime; same version, same content.
        if not target.is_dir():
            raise
    sync_folder(target.parent)


def _merged(old: Sequence[_T], new: Sequence[_T]) -> tuple[_T, ...]:
    fresh = {each.name for each in new}
    return tuple([each for each in old if each.name not in fresh] + list(new))


def _matches(pattern: str, text: object) -> bool:
    # Not `$` alone: it would accept a trailing newline.
    return isinstance(text, str) and re.fullmatch(pattern.removesuffix("$"), text) is not None
