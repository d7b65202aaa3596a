"""What a PromQL expression needs: the series that it selects, and the label names that it relies on."""

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as parser

# Grafana's variables -> what stands for them when an expression is checked outside Grafana.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$model": ".*"}


@dataclass(frozen=True)
class Selector:
    """One selected metric, with its `label="value"` matchers and the names of all its matchers."""

    metric: str
    equal: tuple[tuple[str, str], ...]
    labels: frozenset[str]

    def matcher(self) -> str:
        """As PromQL writes it."""
        return self.metric + "{" + ",".join(f'{name}="{value}"' for name, value in self.equal) + "}"


@dataclass(frozen=True)
class Grouping:
    """Label names of a by/on/group_left clause, and the metrics below it, one of which must have each."""

    labels: frozenset[str]
    metrics: frozenset[str]


def plain(text: str) -> str:
    """Without Grafana's variables."""
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    return text


def selectors(text: str) -> list[Selector]:
    """All selectors of an expression."""
    return [_selector(node) for node in _nodes(parser.parse(text)) if isinstance(node, parser.VectorSelector)]


def groupings(text: str) -> list[Grouping]:
    """All clauses of an expression that name labels."""
    found = []
    for node in _nodes(parser.parse(text)):
        labels = frozenset(_named(node)) - _made(node)
        if labels:
            below = [each for each in _nodes(node) if isinstance(each, parser.VectorSelector)]
            found.append(Grouping(labels, frozenset(_selector(each).metric for each in below)))
    return found


def _selector(node: parser.VectorSelector) -> Selector:
    matchers = node.matchers.matchers
    equal = tuple((each.name, each.value) for each in matchers if each.op == parser.MatchOp.Equal)
    assert node.name, f"{node} selects no metric by name"
    return Selector(node.name, equal, frozenset(each.name for each in matchers))


def _named(node: parser.Expr) -> Iterator[str]:
    if isinstance(node, parser.AggregateExpr) and node.modifier is not None:
        yield from node.modifier.labels
    if isinstance(node, parser.BinaryExpr) and node.modifier is not None:
        if node.modifier.matching is not None:
            yield from node.modifier.matching.labels
        yield from node.modifier.group_labels or ()


def _made(root: parser.Expr) -> frozenset[str]:
    """Label names that the expression itself gives: the second argument of label_replace."""
    calls = [node for node in _nodes(root) if isinstance(node, parser.Call) and node.func.name == "label_replace"]
    return frozenset(call.args[1].val for call in calls)


def _nodes(root: parser.Expr) -> list[parser.Expr]:
    found: list[parser.Expr] = []
    parser.walk(root, found.append)
    return found
