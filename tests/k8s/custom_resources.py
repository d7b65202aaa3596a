"""Schemas of custom resources, strict: a field that the kind does not have is a mistake here, as it is on a cluster.

KEDA's and the Prometheus operator's come from packages made of their CRDs. The Gateway API's, its inference
extension's and LeaderWorkerSet's are in no package that we can install: what we use of them is written down here, after
their references.
"""

import json
from functools import cache
from typing import Any

from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from tests.k8s.manifests import Manifest

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}
# Pod templates are checked against Kubernetes' own schema.
_POD: Schema = {"type": "object"}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": required | optional,
        "required": list(required),
    }


def _list(items: Schema, most: int = 16) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


_REFERENCE = _object({"name": _TEXT}, group={"type": "string"}, kind=_TEXT, port=_PORT, weight=_COUNT)
# The CRD of bundle v1.4 of the inference extension; llm-d's router serves the same fields under a group of its own.
_REWRITE = _object(
    {
        "poolRef": _object({"name": _TEXT}, group={"type": "string"}, kind=_TEXT),
        "rules": _list(
            _object(
                {},
                matches=_list(_object({"model": _object({"value": _TEXT}, type=_one_of("Exact"))})),
                targets=_list(
                    _object({"modelRewrite": _TEXT}, weight={"type": "integer", "minimum": 1, "maximum": 1_000_000})
                ),
            )
        ),
    }
)
_WRITTEN: dict[tuple[str, str], Schema] = {
    ("gateway.networking.k8s.io/v1", "Gateway"): _object(
        {
            "gatewayClassName": _TEXT,
            "listeners": _list(
                _object(
                    {"name": _TEXT, "port": _PORT, "protocol": _one_of("HTTP", "HTTPS", "TLS", "TCP", "UDP")},
                    allowedRoutes=_object(
                        {"namespaces": _object({"from": _one_of("All", "Same", "Selector", "None")})}
                    ),
                ),
                64,
            ),
        },
        infrastructure=_object({}, annotations=_LABELS | {"maxProperties": 8}, labels=_LABELS),
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _object(
        {
            "parentRefs": _list(_REFERENCE, 32),
            "rules": _list(
                _object(
                    {"backendRefs": _list(_REFERENCE)},
                    matches=_list(
                        _object({"path": _object({"type": _one_of("Exact", "PathPrefix"), "value": _TEXT})}), 64
                    ),
                    timeouts=_object({}, request={"pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}),
                )
            ),
        }
    ),
    ("inference.networking.k8s.io/v1", "InferencePool"): _object(
        {
            "selector": _object({"matchLabels": _LABELS}),
            "targetPorts": _list(_object({"number": _PORT}), 8),
            "endpointPickerRef": _object(
                {"name": _TEXT, "port": _object({"number": _PORT})},
                failureMode=_one_of("FailOpen", "FailClose"),
                group={"type": "string"},
                kind=_TEXT,
            ),
        }
    ),
    ("inference.networking.x-k8s.io/v1alpha2", "InferenceModelRewrite"): _REWRITE,
    ("llm-d.ai/v1alpha2", "InferenceModelRewrite"): _REWRITE,
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"): _object(
        {
            "leaderWorkerTemplate": _object(
                {"workerTemplate": _POD, "size": {"type": "integer", "minimum": 1}},
                leaderTemplate=_POD,
                restartPolicy=_one_of("Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"),
            )
        },
        replicas=_COUNT,
        startupPolicy=_one_of("LeaderCreated", "LeaderReady"),
        rolloutStrategy=_object(
            {"type": _one_of("RollingUpdate")},
            rollingUpdateConfiguration=_object({}, maxUnavailable=_COUNT, maxSurge=_COUNT, partition=_COUNT),
        ),
    ),
}
_PACKAGED: dict[tuple[str, str], type[BaseModel]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): prometheus.ServiceMonitor,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus.PrometheusRule,
}


def is_custom(manifest: Manifest) -> bool:
    """Whether Kubernetes itself does not know this kind."""
    return (manifest["apiVersion"], manifest["kind"]) in _WRITTEN.keys() | _PACKAGED.keys()


def check(manifest: Manifest) -> None:
    """Raises jsonschema.ValidationError for what the kind does not have or lacks."""
    kind = (manifest["apiVersion"], manifest["kind"])
    _validator(*kind).validate(manifest if kind in _PACKAGED else manifest["spec"])


@cache
def _validator(version: str, kind: str) -> Draft202012Validator:
    """A schema is checked once: that takes longer than all manifests do."""
    schema = _packaged(version, kind) if (version, kind) in _PACKAGED else _WRITTEN[version, kind]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _packaged(version: str, kind: str) -> Schema:
    # A flag in the middle of a pattern is Go's way; Python wants it in front.
    text = json.dumps(_PACKAGED[version, kind].model_json_schema(by_alias=True)).replace("^(?i)", "(?i)^")
    found: Schema = json.loads(text)
    for part in (found, *found.get("$defs", {}).values()):
        if "properties" in part:
            part["additionalProperties"] = False
    return found
