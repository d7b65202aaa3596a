"""Writes the rules as PrometheusRule objects: `python -m tests.k8s.prometheus_rules`. A test compares them.

Kustomize cannot put a file into an object, and Prometheus refuses an object as a rule file; so there are two forms of
one source, k8s/monitoring/rules.
"""

from pathlib import Path

from tests.k8s.manifests import K8S
from tests.k8s.monitoring import RULES

OUT = K8S / "components" / "prometheus-operator"


def rule_object(path: Path) -> str:
    """The PrometheusRule of a rule file, as YAML."""
    comments, _, groups = path.read_text().partition("groups:\n")
    body = "".join(f"  {line}\n" if line else "\n" for line in groups.splitlines())
    labels = "{app.kubernetes.io/name: breakeven, app.kubernetes.io/component: monitoring}"
    return (
        f"# Made from k8s/monitoring/rules/{path.name} by `python -m tests.k8s.prometheus_rules`.\n{comments}"
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n"
        f"metadata:\n  name: breakeven-{path.stem}\n  labels: {labels}\nspec:\n  groups:\n{body}"
    )


if __name__ == "__main__":
    for each in RULES:
        (OUT / each.name).write_text(rule_object(each))
