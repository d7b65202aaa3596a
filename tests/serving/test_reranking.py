"""Reranking through the gateway and the command line: off, measured, used, accounted for."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.hashing import HashingEmbedder
from retrieval.pipeline import Retriever
from retrieval.questions import parse_questions
from retrieval.reranker import Rerank
from retrieval.reranking import FEWEST, Reranking
from retrieval.store import Store
from serving.access import open_documents
from serving.auth import LOCAL_OPERATOR
from serving.knowledge import Knowledge
from serving.remote import RemoteError
from serving.sections import Retrieval, Settings
from serving.shelf import Measures, Shelf, Threads
from tests.retrieval.rerankers import MARK, MarkReranker, onnx_folder
from tests.serving.gateways import Running, running, settings_for
from tests.serving.shelf import Ready

TOPICS = [f"topic{number}" for number in range(FEWEST)]
ROWS: list[dict[str, Any]] = [{"question": f"{topic} opens at nine", "file": f"{topic}-answer.txt"} for topic in TOPICS]
TURNED = [{**row, "file": row["file"].replace("answer", "decoy")} for row in ROWS]
ASK: Any = [{"role": "user", "content": "topic3 opens at nine"}]
BODY = {"breakeven": {"knowledge": "towers", "min_score": 0.1, "top_k": 2}}


def reranking_settings(home: Path) -> Settings:
    folder = home / "marks"
    return settings_for(home, retrieval={"reranker": str(folder if folder.exists() else onnx_folder(folder))})


class Slow(MarkReranker):
    seconds = 0.0

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(self.seconds)
        return super().score(question, texts)


async def fill(knowledge: Knowledge) -> None:
    for topic in TOPICS:
        for name, text in (("decoy", f"{topic} opens {topic} opens at nine"), ("answer", f"{topic} opens {MARK}")):
            source, data = f"{topic}-{name}.txt", text.encode()
            await knowledge.ingest(LOCAL_OPERATOR, "towers", source, data, frozenset({"everyone"}))


async def judge(home: Path, rows: list[dict[str, Any]] = ROWS) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        with open_documents(reranking_settings(home)) as documents:
            steps = list(documents.judge_reranking("towers", parse_questions(rows)))
        assert [step["done"] for step in steps] == [*range(1, FEWEST + 1), FEWEST]
        found: dict[str, Any] = steps[-1]["verdict"]
        return found

    return await asyncio.to_thread(work)


async def asked(stack: Running) -> dict[str, Any]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model="plain", messages=ASK, extra_body=BODY)
    found: dict[str, Any] = (answer.model_extra or {})["breakeven"]["retrieval"]
    return found


async def test_it_is_off_until_it_is_measured_and_then_a_stage_of_its_own(tmp_path: Path) -> None:
    async with running(reranking_settings(tmp_path)) as stack:
        await fill(stack.gateway.knowledge)
        note = await stack.gateway.knowledge.note()
        assert note is not None
        assert "marks is off for 2 of 2 knowledge bases" in note
        before = await asked(stack)
        assert (before["passages"][0]["source"], before["rerank_seconds"]) == ("topic3-decoy.txt", None)
        assert b'duration_seconds_count{stage="rerank"}' not in stack.gateway.metrics.exposition()
        verdict = await judge(tmp_path)
        assert verdict["better"]
        after = await asked(stack)
        assert after["passages"][0]["source"] != "topic3-decoy.txt"
        assert after["rerank_seconds"] > 0
        assert after["best_score"] == before["best_score"]
        assert b'breakeven_retrieval_duration_seconds_count{stage="rerank"} 1.0' in stack.gateway.metrics.exposition()
        still = await stack.gateway.knowledge.note()
        assert still is not None
        assert "off for 1 of 2" in still
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        rows = ledger.execute("SELECT rerank_s FROM requests ORDER BY started_at").fetchall()
    assert rows[0] == (None,)
    assert rows[1][0] == pytest.approx(after["rerank_seconds"], abs=1e-5)
    async with running(reranking_settings(tmp_path)) as stack:
        assert (await asked(stack))["rerank_seconds"] > 0


async def test_one_that_makes_it_worse_stays_off(tmp_path: Path) -> None:
    async with running(reranking_settings(tmp_path)) as stack, aiohttp.ClientSession(stack.url) as session:
        await fill(stack.gateway.knowledge)
        verdict = await judge(tmp_path, TURNED)
        assert verdict["comparison"]["difference"]["high"] < 0
        assert (await asked(stack))["rerank_seconds"] is None
        async with session.get("/v1/breakeven/knowledge/towers/reranking") as response:
            told = await response.json()
        assert (told["better"], told["used"], told["reranker"]) == (False, False, "marks")
        assert told["told"].endswith("worse")


async def test_the_loop_goes_on_while_passages_are_read(tmp_path: Path) -> None:
    embedder, slow = HashingEmbedder(), Slow()
    store = Store(tmp_path / "chroma", embedder.fingerprint, embedder.dimensions)
    retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
    measures = Measures(
        Calibrator(tmp_path / "calibration", retriever, store, embedder),
        Reranking(tmp_path / "reranking", retriever, store, embedder.fingerprint, Rerank(slow, 4)),
    )
    with closing(store), ThreadPoolExecutor(2) as executor:
        threads, defaults = Threads(executor, executor), Retrieval.model_validate({})
        knowledge = Knowledge(Ready(Shelf(retriever, store, embedder, measures)), embedder.name, threads, defaults)
        await fill(knowledge)
        [step async for step in knowledge.judge_reranking(LOCAL_OPERATOR, "towers", parse_questions(ROWS))]
        slow.seconds, ticks = 0.5, 0
        search = asyncio.create_task(knowledge.find(LOCAL_OPERATOR, "towers", ROWS[0]["question"], 2, 0.1, None))
        while not search.done():
            await asyncio.sleep(0.01)
            ticks += 1
        found = await search
        assert found.rerank_seconds is not None
        assert found.rerank_seconds >= 0.5
        assert ticks > 10


async def test_judging_needs_an_operator_of_that_tenant_and_good_questions(tmp_path: Path) -> None:
    async with running(reranking_settings(tmp_path)) as stack, aiohttp.ClientSession(stack.url) as session:
        await fill(stack.gateway.knowledge)
        url = "/v1/breakeven/knowledge/towers/reranking"
        for body, words in (({}, "`questions` must be a list"), ({"questions": ROWS[:5]}, "there are 5 questions")):
            async with session.post(url, json=body) as response:
                assert response.status == 400
                assert words in (await response.json())["error"]["message"]
        async with session.get(url) as response:
            assert response.status == 404
            assert "breakeven eval rerank --knowledge towers" in (await response.json())["error"]["message"]
        keys = stack.gateway.keys
        made = (keys.create("local", ["everyone"], "user"), keys.create("globex", ["everyone"], "operator"))
        for key, status in zip(made, (403, 404), strict=True):
            headers = {"authorization": f"Bearer {key}"}
            async with session.post(url, headers=headers, json={"questions": ROWS}) as response:
                assert response.status == status


async def test_without_a_reranker_the_command_says_how_to_configure_one(tmp_path: Path) -> None:
    def work() -> None:
        with open_documents(settings_for(tmp_path)) as documents:
            list(documents.judge_reranking("books", parse_questions(ROWS)))

    async with running(settings_for(tmp_path)) as stack:
        assert await stack.gateway.knowledge.note() is None
        with pytest.raises(RemoteError, match=r"set retrieval\.reranker"):
            await asyncio.to_thread(work)


def test_a_ledger_from_before_gets_the_column(tmp_path: Path) -> None:
    async def once() -> None:
        async with running(settings_for(tmp_path)) as stack:
            await asked_plainly(stack)

    async def asked_plainly(stack: Running) -> None:
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none") as client:
            await client.chat.completions.create(model="plain", messages=ASK)

    asyncio.run(once())
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        ledger.execute("ALTER TABLE requests DROP COLUMN rerank_s")
    asyncio.run(once())
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        assert ledger.execute("SELECT count(*), count(rerank_s) FROM requests").fetchone() == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "retrieval", "x", "--rerank"], "no reranker is configured"),
        (["eval", "rerank", "--knowledge", "k", "--questions", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["eval", "refusal", "missing.json", "--against", "a=b.csv"], "b.csv has no readable column"),
        (["eval", "refusal", "missing.json", "--against", "a"], "--against takes name=FILE"),
    ],
)
def test_the_commands_say_what_they_need(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [str(Path(sys.executable).parent / "python"), "-m", "breakeven", *arguments]
    environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2]), "BREAKEVEN_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
