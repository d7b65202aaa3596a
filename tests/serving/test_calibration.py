"""Calibration through the gateway and through the command line, and which minimum score a request gets."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from retrieval.questions import parse_questions
from serving.access import open_documents
from serving.auth import LOCAL_OPERATOR
from serving.remote import RemoteError
from tests.serving.gateways import DOCUMENT, Running, running, settings_for

ROWS: list[dict[str, Any]] = [
    {"question": f"rain gauge holds how much water {n}", "file": "gauges.md"} for n in range(10)
]
ROWS += [{"question": f"xylophone quantum zebra {n}", "file": None} for n in range(10)]
MODELS = {"own": {"knowledge": "books", "min_score": 0.9}, "free": {"knowledge": "books"}}
ASK: Any = [{"role": "user", "content": "rain gauge holds how much water"}]


def retrieval_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.model_extra["breakeven"]["retrieval"]
    return found


async def calibrate(stack: Running, tmp_path: Path) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        with open_documents(settings_for(tmp_path)) as documents:
            steps = list(documents.calibrate("books", parse_questions(ROWS), 0.9))
        assert [step["done"] for step in steps] == [*range(1, 21), 20]
        found: dict[str, Any] = steps[-1]["calibration"]
        return found

    assert stack.url
    return await asyncio.to_thread(work)


async def test_the_first_of_request_served_model_calibration_and_setting_counts(tmp_path: Path) -> None:
    async with (
        running(settings_for(tmp_path, models=MODELS)) as stack,
        openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client,
    ):

        async def minimum(model: str, **extra: Any) -> tuple[float, str]:
            body = {"breakeven": extra}
            found = retrieval_of(await client.chat.completions.create(model=model, messages=ASK, extra_body=body))
            return found["min_score"], found["min_score_from"]

        assert await minimum("free") == (0.35, "setting")
        calibrated = await calibrate(stack, tmp_path)
        assert await minimum("free") == (calibrated["min_score"], "calibration")
        assert await minimum("own") == (0.9, "served_model")
        assert await minimum("own", min_score=0.1) == (0.1, "request")
        assert await minimum("free", min_score=0.1) == (0.1, "request")


async def test_a_gateway_that_starts_again_has_it_and_says_when_it_is_outdated(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as stack:
        await calibrate(stack, tmp_path)
    async with running(settings_for(tmp_path)) as stack, aiohttp.ClientSession(stack.url) as session:
        async with session.get("/v1/breakeven/knowledge/books/calibration") as response:
            before = await response.json()
        assert (before["drift"], before["warning"], before["covered"], before["documents"]) == (0, None, 10, 1)
    async with running(settings_for(tmp_path)) as stack:
        changed = DOCUMENT + b"Or fifty."
        await stack.gateway.knowledge.ingest(LOCAL_OPERATOR, "books", "gauges.md", changed, frozenset({"everyone"}))

        def warning() -> str | None:
            with open_documents(settings_for(tmp_path)) as documents:
                assert documents.warning("nothing") is None
                return documents.warning("books")

        told = await asyncio.to_thread(warning)
        assert told is not None
        assert told.startswith("100% of the documents in 'books' are others")


@pytest.mark.parametrize(
    ("knowledge", "body", "status", "words"),
    [
        ("books", {"questions": ROWS[:5]}, 400, "there are 5 questions"),
        ("books", {"questions": "all"}, 400, "`questions` must be a list"),
        ("books", {"questions": [1]}, 400, "question 1 is not"),
        ("books", {"questions": ROWS, "precision": "high"}, 400, "`precision` must be a number"),
        ("books", {"questions": ROWS, "precision": 0}, 400, "above 0"),
        ("nothing", {"questions": ROWS}, 404, "no knowledge base 'nothing'"),
    ],
)
async def test_what_cannot_be_calibrated_is_an_error(
    tmp_path: Path, knowledge: str, body: dict[str, Any], status: int, words: str
) -> None:
    async with running(settings_for(tmp_path)) as stack, aiohttp.ClientSession(stack.url) as session:
        async with session.post(f"/v1/breakeven/knowledge/{knowledge}/calibration", json=body) as response:
            assert response.status == status
            assert words in (await response.json())["error"]["message"]
        async with session.get(f"/v1/breakeven/knowledge/{knowledge}/calibration") as response:
            assert response.status == 404


async def test_a_failure_at_the_end_of_the_stream_reaches_the_command(tmp_path: Path) -> None:
    turned = [{**row, "file": None if row["file"] else "gauges.md"} for row in ROWS]

    def work() -> None:
        with open_documents(settings_for(tmp_path)) as documents:
            list(documents.calibrate("books", parse_questions(turned), 0.9))

    async with running(settings_for(tmp_path)):
        with pytest.raises(RemoteError, match="no minimum score reaches a precision"):
            await asyncio.to_thread(work)


async def test_calibrating_needs_an_operator_of_that_tenant(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as stack, aiohttp.ClientSession(stack.url) as session:
        await calibrate(stack, tmp_path)
        user = stack.gateway.keys.create("local", ["everyone"], "user")
        stranger = stack.gateway.keys.create("globex", ["everyone"], "operator")
        url = "/v1/breakeven/knowledge/books/calibration"
        for key, get, post in ((user, 200, 403), (stranger, 404, 404)):
            headers = {"authorization": f"Bearer {key}"}
            async with session.get(url, headers=headers) as response:
                assert response.status == get
            async with session.post(url, headers=headers, json={"questions": ROWS}) as response:
                assert response.status == post


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS[:3])))
    command = [str(Path(sys.executable).parent / "breakeven"), "calibrate", "--knowledge", "books"]
    done = subprocess.run(
        [*command, "--questions", str(file)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "there are 3 questions that documents answer; give at least 10" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
