"""A canary's share as weights of an InferenceModelRewrite: for clients that reach the engines past this gateway.

The gateway itself sends exact versions, which the rule does not match, so its own split stays in force. Fields after
the CRD in bundle v1.4 of the Gateway API inference extension, and of llm-d's router, which has taken the kind over.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from adapters.aliases import CANARY, PROD
from adapters.errors import UnknownAdapter, UnsafeAdapter
from serving.models import split_reference
from serving.sections import Canary, ServedModel

Group = Literal["inference.networking.x-k8s.io", "llm-d.ai"]
_VERSION = "v1alpha2"
# Weights are whole numbers from 1; a thousand parts tell a tenth of a per cent.
_WHOLE = 1000


def share_of(name: str, models: Iterable[ServedModel]) -> float:
    """The canary's share that the served models with this adapter agree on; the default if there is none.

    Raises UnsafeAdapter if they do not agree: one rule has one pair of weights.
    """
    shares = {
        model.canary.share
        for model in models
        if model.adapter is not None and split_reference(model.adapter) == (name, PROD)
    }
    if len(shares) > 1:
        said = ", ".join(f"{share:g}" for share in sorted(shares))
        raise UnsafeAdapter(f"served models with the adapter {name} have different canary.share ({said}); pass --share")
    return shares.pop() if shares else Canary.model_validate({}).share


def rewrite(name: str, aliases: Mapping[str, str], share: float, pool: str, group: Group) -> dict[str, Any]:
    """The manifest: who asks for `name` gets prod, and `share` of the requests the canary if there is one.

    `aliases`: alias -> version. Raises UnknownAdapter without a prod version.
    """
    if PROD not in aliases:
        raise UnknownAdapter(f"{name} has no prod version to send anyone to; promote one: breakeven adapters promote")
    canary = aliases.get(CANARY)
    part = 0 if canary is None else min(_WHOLE - 1, max(1, round(share * _WHOLE)))
    targets = [{"modelRewrite": f"{name}@{aliases[PROD]}", "weight": _WHOLE - part}]
    if canary is not None:
        targets.append({"modelRewrite": f"{name}@{canary}", "weight": part})
    return {
        "apiVersion": f"{group}/{_VERSION}",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": f"adapter-{name}"},
        "spec": {
            "poolRef": {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool},
            "rules": [{"matches": [{"model": {"type": "Exact", "value": name}}], "targets": targets}],
        },
    }
