"""`client.fine_tuning.jobs` as OpenAI's own client sees it, with the real trainer on a tiny base model."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.adapters.tiny import make_base
from tests.serving.gateways import Running, running, settings_for

EXAMPLE = {"messages": [{"role": "user", "content": "Is it open?"}, {"role": "assistant", "content": "yes"}]}
LINES = (json.dumps(EXAMPLE) + "\n").encode() * 6
PATIENCE_S = 300.0
pytestmark = pytest.mark.slow


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    base = make_base(tmp_path / "tiny-base")
    tuning = {"r": 2, "alpha": 4, "batch_size": 2, "epochs": 1, "max_length": 128}
    async with running(settings_for(tmp_path / "home", engine={"model": str(base)}, tuning=tuning)) as started:
        yield started


@pytest.fixture
async def client(stack: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as made:
        yield made


async def until(client: openai.AsyncOpenAI, id: str, *statuses: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while (job := await client.fine_tuning.jobs.retrieve(id)).status not in statuses:
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.2)
    return job


async def test_from_upload_to_answer(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("open.jsonl", LINES), purpose="fine-tune")
    broken = await client.files.create(file=("broken.jsonl", b'{"messages": 1}\n'), purpose="fine-tune")
    chosen: Any = {"n_epochs": 2, "learning_rate_multiplier": 10}
    made = await client.fine_tuning.jobs.create(
        model="tiny-base",
        training_file=file.id,
        suffix="door",
        seed=5,
        hyperparameters=chosen,
        metadata={"why": "test"},
    )
    assert (made.object, made.seed, made.fine_tuned_model) == ("fine_tuning.job", 5, None)
    refused = await client.fine_tuning.jobs.create(model="tiny-base", training_file=broken.id)
    assert (await until(client, refused.id, "queued", "validating_files")).status == "queued"

    done = await until(client, made.id, "succeeded", "failed")
    assert done.status == "succeeded", done.error
    model = done.fine_tuned_model
    assert model.startswith("door@") and done.trained_tokens > 0 and done.finished_at is not None
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Is it open?"}])
    assert (answer.model_extra or {})["breakeven"]["adapter"] == model
    words = [event.message async for event in client.fine_tuning.jobs.list_events(made.id)]
    assert words[0] == f"The job has succeeded: {model.partition('@')[2]}" and words[-1] == "Validating the files"
    assert any("training loss" in each for each in words)

    failed = await until(client, refused.id, "failed", "succeeded")
    assert failed.status == "failed" and failed.error is not None
    assert "train.jsonl" in failed.error.message and "Traceback" not in failed.error.message
    assert [job.id async for job in client.fine_tuning.jobs.list(limit=1)] == [refused.id, made.id]
    (checkpoint,) = [each async for each in client.fine_tuning.jobs.checkpoints.list(made.id)]
    assert checkpoint.step_number == 6  # of 6 examples twice, by pairs: the end
    with pytest.raises(openai.ConflictError, match="is succeeded"):
        await client.fine_tuning.jobs.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.fine_tuning.jobs.retrieve("ftjob-0")
