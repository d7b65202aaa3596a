"""How long LoRA training takes at the shape under test: seconds per 1,000 examples.

The trainer is the one that `breakeven train` uses; the weights are random, since time depends on sizes only.
"""

import json
import shutil

from adapters.plan import make_plan
from adapters.speed import Machine, recall
from benchmarks.errors import ModelError
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.weights import write_model

_STEPS = 6
_ANSWER = 64  # tokens of an example that carry loss
_BATCH = 4


def training(setup: Setup) -> None:
    """Trains a few steps and writes the speed."""
    from adapters.training import measure_speed

    scale = setup.scale
    folder = write_model(setup.work / f"{scale.name}-weights", scale.model, setup.base, weights=True)
    recipe = setup.work / "recipe"
    shutil.rmtree(recipe, ignore_errors=True)
    recipe.mkdir(parents=True)
    words, texts = setup.text, []
    for number in range(scale.examples):
        turns = (("user", scale.example_tokens - _ANSWER // 2), ("assistant", _ANSWER // 2))
        messages = [{"role": role, "content": words.of(tokens, f"{number}:{role}")} for role, tokens in turns]
        texts.append(json.dumps({"messages": messages}))
    (recipe / "train.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    longest = scale.example_tokens + 128  # the chat template
    lines = ['name = "speed"', 'data = "train.jsonl"', f"r = {scale.rank}", f"alpha = {2 * scale.rank}"]
    lines += ['target_modules = "all-linear"', "learning_rate = 2e-4", "epochs = 1", f"batch_size = {_BATCH}"]
    lines += [f"max_length = {longest}", "seed = 1", 'dtype = "bfloat16"']
    (recipe / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan = make_plan(recipe, folder)
    machine = Machine(setup.work / "training", setup.machine.name)
    measure_speed(plan, machine, setup.console, _STEPS)
    speed = recall(machine, plan.base.sha256)
    if speed is None:
        raise ModelError(f"{_STEPS} training steps gave no speed")
    tokens = scale.example_tokens
    setup.write(
        "training",
        {
            "shape": dict(scale.model),
            "rank": scale.rank,
            "batch_size": _BATCH,
            "example_tokens": tokens,
            "tokens_per_s": speed.tokens_per_s,
            "steps": speed.steps,
            "seconds_per_1000_examples": 1000 * tokens / speed.tokens_per_s,
        },
    )
    shutil.rmtree(folder)  # gigabytes that nobody needs again
