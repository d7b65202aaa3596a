"""A real training run on a base model of random weights that is small enough for a test: a few steps, a few seconds."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from safetensors import safe_open

from adapters.errors import MalformedData, MissingBase, OutputBusy, OutputExists, Unavailable
from adapters.manifest import CONFIG, WEIGHTS, base_fingerprint
from adapters.plan import make_plan
from adapters.registry import Registry
from adapters.runs import RunFolder, locked
from adapters.speed import Machine, recall
from adapters.training import measure_speed
from tests.adapters.tiny import chat, make_base, run, write_recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def test_the_same_seed_gives_the_same_installable_adapter(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    output = io.StringIO()
    first = run(recipe, base, tmp_path / "one", output)
    second = run(recipe / "recipe.toml", base, tmp_path / "two")
    assert first.version == second.version
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()

    installed = Registry(tmp_path / "registry").install(tmp_path / "one")
    assert installed.engine_name == f"tiny@{first.version}" and installed.rank == 2
    installed.manifest.require_base(base_fingerprint(base))
    assert {score.n for score in first.scores} == {2}
    plan = make_plan(recipe, base)
    assert plan.heldout is not None
    assert [(each.role, each.sha256) for each in first.data] == [
        ("train", plan.train.sha256),
        ("heldout", plan.heldout.sha256),
    ]
    assert str(tmp_path) not in (tmp_path / "one" / CONFIG).read_text() + first.to_json()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one", "one.run", "recipe", "registry", "state", "two", "two.run",
    ]  # fmt: skip

    assert "training" in output.getvalue() and "2/2" in output.getvalue() and "loss " in output.getvalue()
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "only the progress bar may speak"


def test_the_journal_tells_the_whole_run(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe", epochs=3, more='validation = "train.jsonl"')
    manifest = run(recipe, base, tmp_path / "out")
    events = RunFolder(tmp_path / "out").journal.events()
    states = list(dict.fromkeys(event.state for event in events))
    assert states == ["preparing", "training", "scoring", "succeeded"]
    last = events[-1]
    assert (last.step, last.steps, last.epoch, last.version) == (6, 6, 3.0, manifest.version)
    assert last.loss is not None and last.valid_loss is not None and last.tokens_per_s
    assert [each.role for each in manifest.data] == ["train", "validation", "heldout"]
    speed = recall(Machine(tmp_path / "state", "test machine"), manifest.base_sha256)
    assert speed is not None and speed.steps == 5 and speed.tokens_per_s == last.tokens_per_s


def test_training_changes_the_model_and_saves_bfloat16(base: Path, tmp_path: Path) -> None:
    manifest = run(write_recipe(tmp_path / "recipe", scored=False), base, tmp_path / "out")
    assert manifest.scores == ()
    with safe_open(tmp_path / "out" / WEIGHTS, framework="pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118  # not a mapping
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.bfloat16"}
    assert len(tensors) == 2 * 2 * 2
    # lora_B starts at zero: anything else was learnt.
    assert all(tensor.abs().sum() > 0 for name, tensor in tensors.items() if "lora_B" in name)


def first_loss(base: Path, folder: Path, *lines: str, more: str = "") -> float:
    """The loss before anything was learnt: the mean over all trained tokens, since one batch holds every example."""
    run(write_recipe(folder, scored=False, lines=lines, more=more), base, folder / "out")
    loss = RunFolder(folder / "out").journal.events()[1].loss
    assert loss is not None
    return loss


def test_packed_examples_do_not_see_each_other(base: Path, tmp_path: Path) -> None:
    lines = [chat("Is 1 a number?", "yes"), chat("And what is this, then?", "no, it is not")]
    apart = first_loss(base, tmp_path / "apart", *lines)
    packed = first_loss(base, tmp_path / "packed", *lines, more='packing = true\nvalidation = "train.jsonl"')
    assert packed == pytest.approx(apart, rel=1e-4)

    four = write_recipe(tmp_path / "four", scored=False, more="packing = true")
    run(four, base, four / "out")
    last = RunFolder(four / "out").journal.last()
    assert last is not None and last.steps == 1, "two batches without packing"


def test_only_assistant_turns_of_weight_1_carry_loss(base: Path, tmp_path: Path) -> None:
    turns = (("user", "a?"), ("assistant", "first"), ("user", "b?"), ("assistant", "second"))
    messages: list[dict[str, object]] = [{"role": role, "content": text} for role, text in turns]
    both = first_loss(base, tmp_path / "both", chat(messages=messages))
    messages[1]["weight"] = 0
    second = first_loss(base, tmp_path / "second", chat(messages=messages))
    first = first_loss(base, tmp_path / "first", chat(messages=[*messages[:1], {**messages[1], "weight": 1}]))
    # Bytes and the two marks around them are tokens here: "first" and its end are 7, "second" and its end are 8.
    assert both == pytest.approx((7 * first + 8 * second) / 15, rel=1e-4)


def test_what_cannot_work_is_refused_before_training(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputExists):
        run(recipe, base, tmp_path / "taken")
    with pytest.raises(MissingBase):
        run(recipe, recipe, tmp_path / "out")
    with pytest.raises(Unavailable, match="bitsandbytes"):
        run(write_recipe(tmp_path / "quantized", more='quantization = "4bit"'), base, tmp_path / "out")
    with pytest.raises(MalformedData, match=r"line 1: \d+ tokens, max_length is 8"):
        run(write_recipe(recipe, max_length=8), base, tmp_path / "long")
    last = RunFolder(tmp_path / "long").journal.last()
    assert last is not None and last.state == "failed" and "max_length is 8" in (last.error or "")
    assert not (tmp_path / "out").exists() and not (tmp_path / "long").exists()


def test_one_training_at_a_time(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    with RunFolder(tmp_path / "out").held(), pytest.raises(OutputBusy, match="already running"):
        run(recipe, base, tmp_path / "out")
    with locked(tmp_path / "state" / "cpu.lock", "busy"), pytest.raises(OutputBusy, match="test machine is running"):
        run(recipe, base, tmp_path / "out")
    assert not RunFolder(tmp_path / "out").running()
    run(recipe, base, tmp_path / "out")


def test_a_probe_leaves_a_measured_speed_and_nothing_else(base: Path, tmp_path: Path) -> None:
    plan = make_plan(write_recipe(tmp_path / "recipe", epochs=50), base)
    machine = Machine(tmp_path / "state", "test machine")
    assert recall(machine, plan.base.sha256) is None
    measure_speed(plan, machine, Console(file=io.StringIO()), steps=3)
    speed = recall(machine, plan.base.sha256)
    assert speed is not None and speed.steps == 3 and speed.tokens_per_s > 0
    assert sorted(path.name for path in machine.state.iterdir()) == ["cpu.lock", "speeds.json"]
