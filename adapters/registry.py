"""The installed adapters: immutable versions under one folder, and aliases that say which one is served.

Layout: root/<name>/<version>/ with the three files of an adapter (manifest.py), and root/<name>/aliases.json.
Only what is found here reaches the engine: vLLM would load pickles, follow links and join a client's text to a path.
Versions are content hashes because the engine keeps the prefix cache of a name whose weights are replaced.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from safetensors import SafetensorError, safe_open

from adapters.errors import TamperedAdapter, UnknownAdapter, UnsafeAdapter
from adapters.manifest import (
    ADAPTER_FILES,
    CONFIG,
    NAME_PATTERN,
    VERSION_PATTERN,
    WEIGHTS,
    Manifest,
    content_version,
)

PROD = "prod"
_ALIASES = "aliases.json"
_ALIAS_PATTERN = r"^[a-z][a-z-]{0,31}$"


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
    """Not for concurrent writers of one alias: the last `promote` wins. Installing and reading are safe at any time."""

    def __init__(self, root: Path) -> None:
        self.root = root

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
        try:
            stated = json.loads((self.root / name / _ALIASES).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            stated = None
        if not isinstance(stated, dict) or not all(_matches(VERSION_PATTERN, v) for v in stated.values()):
            raise TamperedAdapter(f"{self.root / name / _ALIASES} is damaged: delete it and promote a version again")
        return stated

    def install(self, folder: Path) -> AdapterVersion:
        """Copy an adapter in, complete and verified or not at all; installing it again changes nothing.

        The first version of a name becomes `prod`. Raises UnsafeAdapter, MalformedManifest, TamperedAdapter.
        """
        _refuse_unexpected(folder)
        with self._scratch() as scratch:
            for name in ADAPTER_FILES:
                shutil.copyfile(folder / name, scratch / name, follow_symlinks=False)
            # The copy is verified, not the original: that one may change while it is being read.
            incoming = _open(scratch)
            target = self.root / incoming.name / incoming.version
            target.parent.mkdir(exist_ok=True)
            if not target.exists():
                _move(scratch, target)
        installed = self._verified(incoming.name, incoming.version)
        if PROD not in self.aliases(installed.name):
            self.promote(installed.name, installed.version)
        return installed

    def promote(self, name: str, version: str, alias: str = PROD) -> AdapterVersion:
        """Let `alias` mean this version from now on. Raises UnknownAdapter, TamperedAdapter, UnsafeAdapter."""
        if not _matches(_ALIAS_PATTERN, alias):
            raise UnsafeAdapter(f"bad alias {alias!r}: use lower-case letters and dashes, such as prod or canary")
        promoted = self._verified(name, version)
        path = self.root / name / _ALIASES
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(self.aliases(name) | {alias: version}, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(path)
        return promoted

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
    try:
        with safe_open(folder / WEIGHTS, framework="numpy") as weights:
            weights.keys()
    except SafetensorError as error:
        raise UnsafeAdapter(f"{WEIGHTS} in {folder} is not a safetensors file ({error}): train it again") from None
    return AdapterVersion(manifest.name, manifest.version, folder, manifest, _rank(folder / CONFIG))


def _rank(config: Path) -> int:
    try:
        stated = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        stated = None
    rank = stated.get("r") if isinstance(stated, dict) and stated.get("peft_type") == "LORA" else None
    if not isinstance(rank, int) or rank < 1:
        raise UnsafeAdapter(f"{CONFIG} is not the config of a LoRA adapter with a rank `r`: train it with peft")
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
    scratch.chmod(0o755)
    try:
        scratch.rename(target)
    except OSError:
        # Another process installed the same version in the meantime; same version, same content.
        if not target.is_dir():
            raise


def _matches(pattern: str, text: object) -> bool:
    # Not `$` alone: it would accept a trailing newline.
    return isinstance(text, str) and re.fullmatch(pattern.removesuffix("$"), text) is not None
