"""The recording of vLLM's metrics that rules and dashboards are checked against is what a live vLLM says."""

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Stack
from tests.k8s.live_prometheus import RECORDING
from tests.k8s.monitoring import annotation_queries, panel_queries, rule_queries
from tests.k8s.promql import plain, selectors

pytestmark = pytest.mark.e2e


def _labels(text: str) -> dict[str, set[str]]:
    """Label names by series name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_the_recording_has_what_a_live_engine_has(stack: Stack) -> None:
    with urllib.request.urlopen(f"{stack.engine_url()}/metrics", timeout=10) as response:  # noqa: S310  # loopback http
        live = _labels(response.read().decode())
    recorded = _labels(RECORDING.read_text())
    used = {
        each.metric
        for query in (*rule_queries(), *panel_queries(), *annotation_queries())
        for each in selectors(plain(query.expr))
        if each.metric.startswith("vllm:")
    }
    assert used
    assert {name: live.get(name) for name in used} == {name: recorded.get(name) for name in used}
