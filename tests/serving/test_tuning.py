"""Fine-tuning jobs over a trainer of our own: a real process with the real run folder, and steps that take no time."""

import asyncio
import io
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.auth import LOCAL_OPERATOR, Caller
from serving.database.opening import shared_database, tables
from serving.database.postgres import PostgresDatabase
from serving.engine.device import Device
from serving.errors import BadRequest, Conflict, GatewayError, NotFound, NotOffered
from serving.sections import Settings
from serving.stores.blobs import blobs_of
from serving.stores.database import SCHEMA, Database
from serving.stores.files import Files, Upload
from serving.stores.paging import Page
from serving.tuning.service import Host, Tuning, open_tuning, refuse_crowded_gpu
from tests.servers import Cluster

CPU = Device("cpu", "a processor", 2)
STRANGER = Caller("strangers", frozenset(), "operator", "k2")
TRAINER = Path(__file__).parent / "trainer.py"
ROOT = TRAINER.parents[2]
EXAMPLES = b'{"messages": []}\n'
PATIENCE_S = 60.0


class Desk:
    """A service on a state folder, and the file that its jobs are trained on."""

    def __init__(self, tuning: Tuning, files: Files, published: list[Path]) -> None:
        self.tuning, self.files, self.published = tuning, files, published

    async def upload(self, purpose: str = "fine-tune", content: bytes = EXAMPLES) -> str:
        upload = Upload("train.jsonl", purpose, len(content), None)
        return (await self.files.create(LOCAL_OPERATOR.tenant, upload, io.BytesIO(content), time.time())).id

    async def create(self, **fields: Any) -> str:
        body = {"model": "base", "training_file": fields.pop("training_file", None) or await self.upload(), **fields}
        return str((await self.tuning.create(LOCAL_OPERATOR, body))["id"])

    async def job(self, id: str) -> dict[str, Any]:
        return await self.tuning.retrieve(LOCAL_OPERATOR, id)

    async def until(self, id: str, *statuses: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while (job := await self.job(id))["status"] not in statuses:
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.05)
        return job


@asynccontextmanager
async def desk(
    home: Path, script: str = "succeed", shared: PostgresDatabase | None = None, **settings: Any
) -> AsyncIterator[Desk]:
    database, published = Database(tables(shared, home / "files.db", SCHEMA)), list[Path]()

    async def command(recipe: Path, out: Path) -> Sequence[str]:
        return ("env", f"PYTHONPATH={ROOT}", sys.executable, str(TRAINER), str(recipe), str(out), script)

    async def publish(folder: Path) -> str:
        published.append(folder)
        return f"tone@{len(published)}"

    files = Files(database, blobs_of(database, home / "files"))
    tree = Settings.model_validate({"home": home, **settings})
    try:
        async with open_tuning(database, files, tree, Host("base", CPU, command, publish), time.time) as tuning:
            yield Desk(tuning, files, published)
    finally:
        database.close()


async def test_a_job_from_file_to_model(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        id = await at.create(suffix="Our Tone!", seed=7, metadata={"why": "test"})
        done = await at.until(id, "succeeded", "failed")
        assert (done["status"], done["fine_tuned_model"], done["error"]) == ("succeeded", "tone@1", None)
        assert (done["trained_tokens"], done["seed"], done["metadata"]) == (40, 7, {"why": "test"})
        assert done["finished_at"] >= done["created_at"]
        assert at.published == [tmp_path / "tuning" / id / "adapter"]
        recipe = (tmp_path / "tuning" / id / "recipe.toml").read_text()
        assert 'name = "our-tone"' in recipe
        assert "seed = 7" in recipe
        events = await at.tuning.events(LOCAL_OPERATOR, id, Page(limit=100, descending=False))
        words = [event["message"] for event in events["data"]]
        assert words[0] == "Validating the files"
        assert "Step 4/4: training loss=0.2500" in words
        checkpoints = await at.tuning.checkpoints(LOCAL_OPERATOR, id, Page())
        assert [each["step_number"] for each in checkpoints["data"]] == [4, 2]
        assert [each["id"] for each in (await at.tuning.page(LOCAL_OPERATOR, Page()))["data"]] == [id]


async def test_gateways_that_share_a_database_train_a_job_once_and_either_may_stop_it(
    tmp_path: Path, postgres: Cluster
) -> None:
    postgres.empty()
    async with AsyncExitStack() as stack:
        bases = [stack.enter_context(shared_database(postgres.url())) for _ in range(2)]
        one, two = [await stack.enter_async_context(desk(tmp_path, "wait", each)) for each in bases]
        id = await one.create(training_file=await two.upload())
        await two.until(id, "running")
        await two.tuning.pause(LOCAL_OPERATOR, id)
        await one.until(id, "paused")
        await asyncio.sleep(0.2)
        assert (await one.job(id))["status"] == "paused"
        assert len((await two.tuning.page(LOCAL_OPERATOR, Page()))["data"]) == 1
        assert (await two.tuning.page(STRANGER, Page()))["data"] == []
        await two.tuning.resume(LOCAL_OPERATOR, id)
        assert (await one.until(id, "succeeded", "failed"))["status"] == "succeeded"
        assert len(one.published + two.published) == 1


async def test_a_trainer_that_refuses_its_file_fails_the_job_in_its_words(tmp_path: Path) -> None:
    async with desk(tmp_path, "fail") as at:
        done = await at.until(await at.create(), "succeeded", "failed")
        assert (done["status"], done["error"]["message"]) == ("failed", "train.jsonl:1: not JSON")
        assert done["fine_tuned_model"] is None
        assert at.published == []


async def test_a_trainer_that_refuses_before_it_begins_is_not_asked_again(tmp_path: Path) -> None:
    async with desk(tmp_path, "refuse") as at:
        done = await at.until(await at.create(), "succeeded", "failed")
        assert (done["status"], done["error"]["message"]) == ("failed", "recipe.toml: correct these keys")


async def test_a_busy_device_is_waited_for(tmp_path: Path) -> None:
    async with desk(tmp_path, "busy") as at:
        assert (await at.until(await at.create(), "succeeded", "failed"))["status"] == "succeeded"


async def test_a_trainer_that_dies_goes_on(tmp_path: Path) -> None:
    async with desk(tmp_path, "die") as at:
        assert (await at.until(await at.create(), "succeeded", "failed"))["status"] == "succeeded"


async def test_one_at_a_time_in_order(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as at:
        first, second = await at.create(), await at.create()
        await at.until(first, "running")
        assert (await at.job(second))["status"] == "queued"
        await at.tuning.cancel(LOCAL_OPERATOR, first)
        assert (await at.until(first, "cancelled"))["fine_tuned_model"] is None
        await at.until(second, "running")
        await at.tuning.cancel(LOCAL_OPERATOR, second)
        await at.until(second, "cancelled")
        with pytest.raises(Conflict, match="is cancelled"):
            await at.tuning.cancel(LOCAL_OPERATOR, second)


async def test_pause_and_resume(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as at:
        id = await at.create()
        await at.until(id, "running")
        with pytest.raises(Conflict, match="only a paused job can resume"):
            await at.tuning.resume(LOCAL_OPERATOR, id)
        await at.tuning.pause(LOCAL_OPERATOR, id)
        await at.until(id, "paused")
        await at.tuning.resume(LOCAL_OPERATOR, id)
        assert (await at.until(id, "succeeded", "failed"))["status"] == "succeeded"


async def test_a_queued_job_is_paused_and_cancelled_without_a_trainer(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as at:
        running, waiting = await at.create(), await at.create()
        await at.until(running, "running")
        assert (await at.tuning.pause(LOCAL_OPERATOR, waiting))["status"] == "paused"
        assert (await at.tuning.resume(LOCAL_OPERATOR, waiting))["status"] == "queued"
        assert (await at.tuning.cancel(LOCAL_OPERATOR, waiting))["status"] == "cancelled"
        await at.tuning.cancel(LOCAL_OPERATOR, running)
        await at.until(running, "cancelled")


async def test_a_job_survives_the_gateway(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as at:
        id = await at.create()
        file = (await at.until(id, "running"))["training_file"]
        await at.files.delete(LOCAL_OPERATOR.tenant, file)  # the job has its own copy
    async with desk(tmp_path, "wait") as at:
        assert (await at.until(id, "succeeded", "failed"))["status"] == "succeeded"


async def test_a_file_that_is_gone_before_its_turn(tmp_path: Path) -> None:
    async with desk(tmp_path, "wait") as at:
        first, file = await at.create(), await at.upload()
        await at.until(first, "running")
        second = await at.create(training_file=file)
        await at.files.delete(LOCAL_OPERATOR.tenant, file)
        await at.tuning.cancel(LOCAL_OPERATOR, first)
        assert "upload it again" in (await at.until(second, "failed"))["error"]["message"]


async def test_other_tenants_see_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        id, tuning = await at.create(), at.tuning
        await at.until(id, "succeeded")
        calls: list[Callable[[Caller, str], Awaitable[Any]]] = [
            *(tuning.retrieve, tuning.cancel, tuning.pause, tuning.resume),
            lambda caller, id: tuning.events(caller, id, Page()),
            lambda caller, id: tuning.checkpoints(caller, id, Page()),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                await call(STRANGER, id)
        assert (await tuning.page(STRANGER, Page()))["data"] == []
        with pytest.raises(NotFound):
            body = {"model": "base", "training_file": (await at.job(id))["training_file"]}
            await tuning.create(STRANGER, body)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"model": "gpt-4o"}, BadRequest, "must be 'base'"),
        ({"training_file": "file-1"}, NotFound, "there is no file"),
        ({"hyperparameters": {"n_epochs": 0}}, BadRequest, "n_epochs"),
        ({"hyperparameters": {"beta": 1}}, BadRequest, "beta"),
        ({"hyperparameters": {"learning_rate_multiplier": -1}}, BadRequest, "learning_rate_multiplier"),
        ({"method": {"type": "dpo"}}, NotOffered, "supervised"),
        ({"integrations": [{"type": "wandb"}]}, NotOffered, "integrations"),
        ({"seed": "x"}, BadRequest, "seed"),
        ({"colour": "red"}, BadRequest, "colour"),
    ],
)
async def test_what_cannot_be_is_refused(
    tmp_path: Path, fields: dict[str, Any], error: type[GatewayError], says: str
) -> None:
    async with desk(tmp_path) as at:
        body = {"model": "base", "training_file": await at.upload(), **fields}
        with pytest.raises(error, match=says):
            await at.tuning.create(LOCAL_OPERATOR, body)


async def test_a_file_of_another_purpose_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        with pytest.raises(BadRequest, match="purpose 'fine-tune'"):
            await at.create(training_file=await at.upload("user_data"))


async def test_hyperparameters_reach_the_recipe(tmp_path: Path) -> None:
    async with desk(tmp_path, tuning={"learning_rate": 0.001, "epochs": 4}) as at:
        chosen = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
        id = await at.create(method={"type": "supervised", "supervised": {"hyperparameters": chosen}})
        done = await at.until(id, "succeeded")
        assert done["hyperparameters"] == chosen
        recipe = (tmp_path / "tuning" / id / "recipe.toml").read_text().splitlines()
        assert {"epochs = 2", "batch_size = 8", "learning_rate = 0.0005"} <= set(recipe)


def test_training_beside_an_engine_needs_memory_that_is_set_aside() -> None:
    gpu = Device("gpu", "a GPU", 1)
    refuse_crowded_gpu(Settings.model_validate({}), CPU)
    refuse_crowded_gpu(Settings.model_validate({"engine": {"url": "http://elsewhere"}}), gpu)
    with pytest.raises(Conflict, match=r"set engine\.gpu_memory_utilization"):
        refuse_crowded_gpu(Settings.model_validate({}), gpu)
    crowded = {"engine": {"gpu_memory_utilization": 0.9}, "tuning": {"gpu_memory_share": 0.3}}
    with pytest.raises(Conflict):
        refuse_crowded_gpu(Settings.model_validate(crowded), gpu)
    shared = {"engine": {"gpu_memory_utilization": 0.5}, "tuning": {"gpu_memory_share": 0.4}}
    refuse_crowded_gpu(Settings.model_validate(shared), gpu)
