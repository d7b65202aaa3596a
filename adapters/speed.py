"""How fast this machine trains, as measured here: the only ground on which time and money of a training are promised.

Each training writes down what it did; `breakeven data check --probe` trains a few steps for it.
"""

import json
import os
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Price:
    """USD per hour of the machine, and where that comes from."""

    per_hour: Decimal
    source: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on: `device` names it for people, `state` keeps its lock and its measured speeds."""

    state: Path
    device: str
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Training tokens per second (prompts included, padding not) over `steps` steps, and with which recipe."""

    tokens_per_s: float
    steps: int
    measured: str
    batch_size: int
    dtype: str
    packing: bool
    quantization: str

    def __str__(self) -> str:
        quantized = "" if self.quantization == "none" else f", {self.quantization}"
        how = f"batches of {self.batch_size}, {self.dtype}{quantized}{', packed' if self.packing else ''}"
        return f"{self.tokens_per_s:.0f} tokens/s, measured on {self.measured} over {self.steps} steps ({how})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What training will take. `usd` is None without a price for the machine."""

    tokens: int
    seconds: float
    usd: Decimal | None


def estimate(tokens: int, speed: Speed, price: Price | None) -> Estimate:
    """Time and money for `tokens` training tokens; loading and scoring are not in it."""
    seconds = tokens / speed.tokens_per_s
    usd = price.per_hour * Decimal(seconds) / 3600 if price else None
    return Estimate(tokens=tokens, seconds=seconds, usd=usd)


def remember(machine: Machine, base_sha256: str, speed: Speed) -> None:
    """Keep it as the last measured speed of this base model on this device."""
    speeds = _read(machine) | {_key(machine, base_sha256): asdict(speed)}
    machine.state.mkdir(parents=True, exist_ok=True)
    fresh = _file(machine).with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(speeds, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(_file(machine))


def recall(machine: Machine, base_sha256: str) -> Speed | None:
    """What was last measured for this base model on this device; None if nothing was."""
    found = _read(machine).get(_key(machine, base_sha256))
    try:
        return Speed(**found) if found else None
    except TypeError:
        return None  # written by another version of this program: measure again


def _read(machine: Machine) -> dict[str, Any]:
    try:
        stated = json.loads(_file(machine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _file(machine: Machine) -> Path:
    return machine.state / "speeds.json"


def _key(machine: Machine, base_sha256: str) -> str:
    return f"{machine.device} {base_sha256}"
