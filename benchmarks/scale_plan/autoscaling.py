"""KEDA's decision about the engines, as the component k8s/components/keda states it and the HPA carries it out."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import ModelError

MANIFEST = Path(__file__).resolve().parents[2] / "k8s" / "components" / "keda" / "engine.yaml"
# The HPA leaves a fleet alone whose metric is within a tenth of its target, and looks every 15 s: Kubernetes' defaults.
_TOLERANCE = 0.1
SYNC_S = 15.0


@dataclass(frozen=True, slots=True)
class Rules:
    """`waiting`, `cache` and, if it is scaled by them, `running` requests are the targets per replica; a replica more
    or fewer at most once in so many seconds."""

    least: int
    most: int
    waiting: float
    cache: float
    up_every_s: float
    down_every_s: float
    settled_s: float
    running: float | None = None


def rules(path: Path = MANIFEST) -> Rules:
    """Of a ScaledObject. ModelError when it is not the one that we know."""
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        targets = {trigger["name"]: float(trigger["metadata"]["threshold"]) for trigger in spec["triggers"]}
        return Rules(
            least=int(spec["minReplicaCount"]),
            most=int(spec["maxReplicaCount"]),
            waiting=targets["waiting"],
            cache=targets["cache"],
            up_every_s=_every(behaviour["scaleUp"]),
            down_every_s=_every(behaviour["scaleDown"]),
            settled_s=float(behaviour["scaleDown"]["stabilizationWindowSeconds"]),
            running=targets.get("running"),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path.name} is not the ScaledObject of the engines ({error!r})") from error


def _every(scaling: Mapping[str, Any]) -> float:
    (policy,) = scaling["policies"]
    if policy["type"] != "Pods" or policy["value"] != 1:
        raise ValueError("one pod at a time")
    return float(policy["periodSeconds"])


class Autoscaler:
    """Asked every SYNC_S with what Prometheus held at its last scrape."""

    def __init__(self, given: Rules) -> None:
        self._rules = given
        self._wanted: deque[tuple[float, int]] = deque()
        self._up_s = self._down_s = -math.inf

    def replicas(self, now: float, current: int, waiting: int, cache: float, running: int) -> int:
        """How many there shall be: `cache` is the sum of the replicas' used shares."""
        given = self._rules
        needs = [_needed(waiting, given.waiting, current), _needed(cache, given.cache, current)]
        if given.running is not None:
            needs.append(_needed(running, given.running, current))
        wanted = min(given.most, max(given.least, *needs))
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - given.settled_s:
            self._wanted.popleft()
        if wanted > current:
            if now - self._up_s < given.up_every_s:
                return current
            self._up_s = now
            return current + 1
        # Down only to the most that was wanted in the whole window.
        settled = max(count for _, count in self._wanted)
        if settled >= current or now - self._down_s < given.down_every_s:
            return current
        self._down_s = now
        return current - 1


def _needed(total: float, target: float, current: int) -> int:
    if abs(total / (target * current) - 1) <= _TOLERANCE:
        return current
    return math.ceil(total / target)
