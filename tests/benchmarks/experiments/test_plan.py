"""Plans: taken apart into cells, and every mistake answered with what may stand there."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import PlanError
from benchmarks.experiments.plan import ExperimentPlan, read_plan
from benchmarks.experiments.prompts import expected_requests, starts, workload
from benchmarks.load.plan import Slo
from tests.house.sources import ROOT

SWEEP = {"id": "rates", "kind": "sweep", "model": "m", "rate": [0.5, 1], "duration_s": 20, "repeats": 2}
GRID = {"id": "shapes", "kind": "grid", "model": "m", "prompt_tokens": [64, 512], "concurrency": [1, 4], "requests": 6}
COMPARE = {
    "id": "retrieval", "kind": "compare", "concurrency": 1, "requests": 5,
    "variants": {"retrieval": {"model": "a"}, "no_context": {"model": "b"}},
}  # fmt: skip


CHANGE = {"id": "change", "kind": "change", "model": "m", "requests": 8}


def plan(tmp_path: Path, *steps: object, **more: object) -> ExperimentPlan:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"name": "p", "steps": list(steps), **more}, sort_keys=False))
    return read_plan(path)


def test_a_sweep_is_a_cell_per_rate_and_repeat(tmp_path: Path) -> None:
    cells = plan(tmp_path, SWEEP).cells
    assert [cell.id for cell in cells] == ["rates/rate=0.5/1", "rates/rate=0.5/2", "rates/rate=1/1", "rates/rate=1/2"]
    assert [cell.load.rate for cell in cells] == [0.5, 0.5, 1, 1]
    assert cells[0].load.seed != cells[1].load.seed


def test_a_grid_is_a_cell_per_combination(tmp_path: Path) -> None:
    shapes = [(cell.load.prompt_tokens, cell.load.concurrency) for cell in plan(tmp_path, GRID).cells]
    assert shapes == [(64, 1), (64, 4), (512, 1), (512, 4)]


def test_variants_differ_in_what_they_say(tmp_path: Path) -> None:
    one, other = plan(tmp_path, COMPARE, defaults={"max_tokens": 7}).cells
    assert (one.variant, one.load.model, other.variant, other.load.model) == ("retrieval", "a", "no_context", "b")
    assert one.load.max_tokens == other.load.max_tokens == 7


def test_changes_are_one_cell_whatever_the_defaults_for_other_steps(tmp_path: Path) -> None:
    others = {"rate": 3, "duration_s": 9, "prompts": "none.jsonl", "max_tokens": 7}
    (cell,) = plan(tmp_path, CHANGE, defaults=others).cells
    load = cell.load
    assert (load.concurrency, load.rate, load.duration_s, load.prompts, load.max_tokens) == (1, None, None, None, 7)
    asked = workload(plan(tmp_path, CHANGE), cell)
    assert {str(asked.prompt(number).messages) for number in range(3)} != {str(asked.prompt(0).messages)}


def test_a_mix_of_adapters_is_a_model_with_weights(tmp_path: Path) -> None:
    (cell,) = plan(tmp_path, {**SWEEP, "kind": "open", "rate": 1, "repeats": 1, "model": {"a": 3, "b": 1}}).cells
    assert [(target.model, target.weight) for target in cell.load.targets] == [("a", 3), ("b", 1)]


def test_objectives_are_read(tmp_path: Path) -> None:
    assert plan(tmp_path, SWEEP, objectives={"ttft_s": 1.5}).objectives == Slo(ttft_s=1.5)


def test_a_changed_plan_has_another_digest(tmp_path: Path) -> None:
    assert plan(tmp_path, SWEEP).digest != plan(tmp_path, GRID).digest
    assert plan(tmp_path, SWEEP).digest == plan(tmp_path, SWEEP).digest


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({**SWEEP, "kind": "swep"}, "closed, open, sweep, grid, compare, change"),
        ({**SWEEP, "rates": [1]}, "did you mean 'rate'"),
        ({**SWEEP, "rate": 1}, "give a list of rate"),
        ({**SWEEP, "rate": [-1]}, "above zero"),
        ({**SWEEP, "rate": [True]}, "above zero"),
        ({**SWEEP, "rate": [float("inf")]}, "above zero"),
        ({**SWEEP, "repeats": 0}, "whole number above zero"),
        ({**SWEEP, "concurrency": 2}, "either concurrency"),
        ({**SWEEP, "requests": 2}, "either requests or duration_s"),
        ({**SWEEP, "model": ""}, "must be a name"),
        ({**SWEEP, "model": {"a": 0}}, "weight of a must be"),
        ({key: value for key, value in SWEEP.items() if key != "model"}, "name the served model"),
        ({key: value for key, value in SWEEP.items() if key != "id"}, "no id"),
        ({**SWEEP, "variants": {}}, "only a comparison"),
        ({**COMPARE, "variants": {"a": {}}}, "two variants"),
        ({**COMPARE, "variants": ["a", "b"]}, "must be `key: value`"),
        ({**GRID, "ignore_eos": "yes"}, "true or false"),
        ("sweep", "must be `key: value`"),
        ({**CHANGE, "rate": 1}, "need no rate"),
        ({**CHANGE, "duration_s": 1}, "need no duration_s"),
        ({**CHANGE, "changes": 1}, "not known"),
        ({key: value for key, value in CHANGE.items() if key != "requests"}, "either requests or duration_s"),
    ],
)
def test_a_mistake_is_answered(tmp_path: Path, step: object, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan(tmp_path, step)


@pytest.mark.parametrize("text", ["", "[]", "steps: {}", "steps: []", "a: [", "steps: [{}]", "\x00"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanError):
        read_plan(path)


def test_an_id_is_used_once(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="used twice"):
        plan(tmp_path, SWEEP, SWEEP)


KEYS = st.sampled_from(["id", "kind", "model", "rate", "steps", "x"])
LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@given(TREES)
@settings(deadline=None)  # it writes files
def test_any_yaml_is_a_plan_or_a_mistake(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    path = tmp_path_factory.mktemp("plans") / "plan.yaml"
    path.write_text(yaml.safe_dump({"steps": tree}))
    with pytest.raises(PlanError):
        read_plan(path)


def test_shipped_plans_can_be_read_and_their_prompts_are_there() -> None:
    paths = sorted((ROOT / "benchmarks" / "plans").glob("*.yaml"))
    assert {path.stem for path in paths} >= {"small", "gpu"}
    for path in paths:
        shipped = read_plan(path)
        assert {"sweep", "grid", "compare"} <= {cell.kind for cell in shipped.cells}
        assert all(workload(shipped, cell).prompt(0).messages for cell in shipped.cells)


def test_cells_ask_what_no_cell_before_them_asked(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("".join(f'{{"question": "q{number}"}}\n' for number in range(200)))
    made = plan(tmp_path, SWEEP, COMPARE, defaults={"prompts": "q.jsonl"})
    begin = starts(made)
    assert list(begin.values())[:4] == [0, 10, 20, 40]
    assert begin["retrieval/retrieval"] == begin["retrieval/no_context"] == 60
    assert [expected_requests(cell.load) for cell in made.cells] == [10, 10, 20, 20, 5, 5]
    asked = [str(workload(made, cell).prompt(index)) for cell in made.cells[:4] for index in range(10)]
    assert len(set(asked)) == len(asked)
    assert workload(made, made.cells[4]).prompt(0) == workload(made, made.cells[5]).prompt(0)


def test_questions_of_one_kind_are_asked_in_no_order(tmp_path: Path) -> None:
    lines = [f'{{"question": "q{number}", "kind": "{"odd" if number % 2 else "even"}"}}\n' for number in range(20)]
    (tmp_path / "q.jsonl").write_text("".join(lines))
    (cell, *_) = (made := plan(tmp_path, SWEEP, defaults={"prompts": "q.jsonl", "only": "odd"})).cells
    source = workload(made, cell)
    texts = [source.prompt(index).messages[0]["content"] for index in range(20)]
    assert sorted(texts[:10]) == sorted(texts[10:]) == sorted(f"q{number}" for number in range(1, 20, 2))
    assert texts[:10] not in (sorted(texts[:10]), texts[10:])
    wrong = plan(tmp_path, SWEEP, defaults={"prompts": "q.jsonl", "only": "none"})
    with pytest.raises(PlanError, match="it has even, odd"):
        workload(wrong, wrong.cells[0])


def test_made_up_prompts_differ_between_cells(tmp_path: Path) -> None:
    one, other, *_ = plan(tmp_path, GRID).cells
    made = plan(tmp_path, GRID)
    assert workload(made, one).prompt(0) != workload(made, other).prompt(0)
    assert workload(made, one).prompt(0) == workload(made, one).prompt(0)
