"""Every expression of the rules and the dashboards, against a real Prometheus that scrapes the real thing."""

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.k8s.live_prometheus import LivePrometheus, busy_gateway, live_prometheus, recorded_vllm
from tests.k8s.manifests import K8S
from tests.k8s.monitoring import Query, annotation_queries, panel_queries, program, rule_queries, rules
from tests.k8s.promql import groupings, plain, selectors

RECORDED_MODEL = "smollm2-135m-instruct"


def scaling_queries() -> list[Query]:
    """What KEDA asks, of the model that was recorded."""
    found = []
    for name in ("engine", "gateway"):
        scaled = yaml.safe_load((K8S / "components" / "keda" / f"{name}.yaml").read_text())
        for trigger in scaled["spec"]["triggers"]:
            expr = re.sub(r'model_name="[^"]+"', f'model_name="{RECORDED_MODEL}"', trigger["metadata"]["query"])
            found.append(Query(f"scale {name} by {trigger['name']}", expr))
    return found


QUERIES = [*scaling_queries(), *rule_queries(), *panel_queries(), *annotation_queries()]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePrometheus]:
    program("prometheus")
    with (
        busy_gateway(tmp_path_factory.mktemp("home")) as url,
        recorded_vllm() as engine,
        live_prometheus(tmp_path_factory.mktemp("prometheus"), url.removeprefix("http://"), engine) as live,
    ):
        yield live


def _ids(query: Query) -> str:
    return query.where


@pytest.mark.parametrize("query", QUERIES, ids=_ids)
def test_every_metric_and_label_is_in_the_scrape(prometheus: LivePrometheus, query: Query) -> None:
    labels: dict[str, set[str]] = {}
    for selector in selectors(plain(query.expr)):
        found = prometheus.series(selector.matcher())
        assert found, f"nothing has {selector.matcher()}"
        labels.setdefault(selector.metric, set()).update(*found)
        assert selector.labels <= labels[selector.metric], selector
    for grouping in groupings(plain(query.expr)):
        known = set().union(*(labels[metric] for metric in grouping.metrics))
        assert grouping.labels <= known, f"{sorted(grouping.labels - known)} is no label of {sorted(grouping.metrics)}"


@pytest.mark.parametrize("query", QUERIES, ids=_ids)
def test_every_expression_evaluates(prometheus: LivePrometheus, query: Query) -> None:
    prometheus.query(plain(query.expr))


def test_prometheus_evaluates_every_rule(prometheus: LivePrometheus) -> None:
    assert prometheus.broken_rules() == []


@pytest.mark.parametrize("query", [*panel_queries(), *scaling_queries()], ids=_ids)
def test_every_panel_shows_something(prometheus: LivePrometheus, query: Query) -> None:
    assert prometheus.query(plain(query.expr)), query.expr


@pytest.mark.parametrize("name", rules("record"))
def test_every_recorded_series_exists(prometheus: LivePrometheus, name: str) -> None:
    assert prometheus.series(name)


def test_a_name_that_is_not_there_is_found(prometheus: LivePrometheus) -> None:
    assert not prometheus.series("vllm:num_requests_waiting{model='x'}")
    for wrong in ("sum by (modell) (breakeven_requests_total)", "breakeven_request_total"):
        with pytest.raises(AssertionError):
            test_every_metric_and_label_is_in_the_scrape(prometheus, Query("planted", wrong))
