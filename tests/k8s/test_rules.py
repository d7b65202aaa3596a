"""The alerts: valid, each with a unit test in which it fires, a severity, words for a human, and a runbook entry."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import K8S
from tests.k8s.monitoring import MONITORING, RULES, program, rules

CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOK = K8S.parent / "docs" / "runbook.md"


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    for answer in (promtool("check", "rules", *RULES), promtool("check", "config", MONITORING / "prometheus.yml")):
        assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_unit_tests_of_the_rules(path: Path) -> None:
    answer = promtool("test", "rules", path)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    fired = set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for each in case["promql_expr_test"]:
                if each["exp_samples"]:
                    fired |= {name for name in rules("alert") if f'alertname="{name}"' in each["expr"]}
    assert fired == set(rules("alert"))


def test_a_rule_that_is_wrong_fails_its_case(tmp_path: Path) -> None:
    for folder in (MONITORING / "rules", CASES[0].parent):
        shutil.copytree(folder, tmp_path / folder.name if folder != CASES[0].parent else tmp_path / "cases")
    wrong = tmp_path / "rules" / "alerts.yaml"
    wrong.write_text(wrong.read_text().replace("breakeven_engine_ready == 0", "breakeven_engine_ready == 1"))
    case = tmp_path / "cases" / "availability.yaml"
    case.write_text(case.read_text().replace("../../../k8s/monitoring/rules", "../rules"))
    answer = promtool("test", "rules", case)
    assert answer.returncode == 1
    assert "BreakevenEngineDown" in answer.stdout + answer.stderr


@pytest.mark.parametrize("name", rules("alert"))
def test_an_alert_tells_its_reader_what_to_do(name: str) -> None:
    rule = rules("alert")[name]
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert all(len(annotations[each]) > 20 for each in annotations)
    assert annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", rules("alert"))
def test_the_runbook_has_an_entry(name: str) -> None:
    entries = {entry.partition("\n")[0].strip(): entry for entry in RUNBOOK.read_text().split("\n## ")[1:]}
    for word in ("**Means.**", "**Look first.**", "**Remedy.**"):
        assert word in entries[name], name


def test_the_runbook_has_no_entry_without_an_alert() -> None:
    titles = [line.removeprefix("## ") for line in RUNBOOK.read_text().splitlines() if line.startswith("## ")]
    assert titles == list(rules("alert"))


def test_the_queries_that_are_documented_for_opencost_are_those_that_are_tested() -> None:
    text = (K8S.parent / "docs" / "kubernetes.md").read_text()
    documented = [block.partition("```")[0] for block in text.split("```promql\n")[1:]]
    cases = yaml.safe_load((CASES[0].parent / "opencost.yaml").read_text())["tests"]
    assert len(documented) == 2
    for query in documented:
        wanted = " ".join(query.split())
        found = [
            each for case in cases for each in case["promql_expr_test"] if wanted in " ".join(each["expr"].split())
        ]
        assert len(found) >= 2, f"tests/k8s/rules/opencost.yaml lacks {query}"


def test_recorded_names_say_what_they_are() -> None:
    for name in rules("record"):
        level, _, operation = name.split(":")
        assert level == "breakeven"
        assert operation.rpartition("_")[2].startswith(("rate", "increase", "sum", "max", "info")), name
