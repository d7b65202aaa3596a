"""What only a real vLLM can show: passed-through features, aborted generations, crashes and recovery."""

import asyncio
import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.conftest import HOME, Stack, run_command

pytestmark = pytest.mark.e2e
ASK: Any = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=180) as sdk:
        yield sdk


async def test_what_vllm_offers_is_passed_through(client: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}}
    structured = await client.chat.completions.create(
        model="smollm2", messages=ASK, response_format=form, max_tokens=40
    )
    assert json.loads(structured.choices[0].message.content or "")["colour"] in ("red", "blue")

    several = await client.chat.completions.create(
        model="smollm2", messages=ASK, n=2, logprobs=True, top_logprobs=3, max_tokens=4, seed=1
    )
    assert len(several.choices) == 2
    tokens = several.choices[0].logprobs
    assert tokens is not None
    assert len((tokens.content or [])[0].top_logprobs) == 3

    same = [
        (await client.chat.completions.create(model="smollm2", messages=ASK, seed=7, temperature=0.8, max_tokens=8))
        .choices[0].message.content
        for _ in range(2)
    ]  # fmt: skip
    assert same[0] == same[1]

    stopped = await client.completions.create(
        model="smollm2", prompt="1, 2, 3, 4,", max_tokens=16, temperature=0, stop=["6"]
    )
    assert "6" not in stopped.choices[0].text

    tool: Any = {
        "type": "function",
        "function": {"name": "paint", "parameters": schema},
    }
    choice: Any = {"type": "function", "function": {"name": "paint"}}
    called = await client.chat.completions.create(
        model="handbook",
        messages=[{"role": "user", "content": "When does my wage arrive in my bank account?"}],
        tools=[tool],
        tool_choice=choice,
        max_tokens=120,
    )
    assert (called.choices[0].message.tool_calls or [])[0].model_dump()["function"]["name"] == "paint"
    assert called.choices[0].message.annotations


async def test_an_adapter_does_not_leak_into_the_base_model(client: openai.AsyncOpenAI) -> None:
    async def first_token(question: str, salt: str) -> dict[str, float]:
        messages: Any = [{"role": "user", "content": question}]
        answer = await client.chat.completions.create(
            model="smollm2",
            messages=messages,
            temperature=0,
            max_tokens=1,
            logprobs=True,
            top_logprobs=5,
            extra_body={"cache_salt": salt},  # each is computed anew
        )
        found = answer.choices[0].logprobs
        assert found is not None
        return {token.token: token.logprob for token in (found.content or [])[0].top_logprobs}

    questions = ("hi", "Who are you?", "What is the parental leave of a small company?")
    alone = [await first_token(question, "alone") for question in questions]
    messages: Any = [{"role": "user", "content": "Tell me about the moon in detail."}]
    request = client.chat.completions.create(
        model="support", messages=messages, max_tokens=300, extra_body={"ignore_eos": True}
    )
    beside = asyncio.ensure_future(request)
    await asyncio.sleep(1)
    mixed = [await first_token(question, "mixed") for question in questions]
    assert not beside.done()
    await beside
    for expected, found in zip(alone, mixed, strict=True):
        assert found == pytest.approx(expected, abs=0.05)


async def test_texts_are_scored_beside_adapters(stack: Stack, client: openai.AsyncOpenAI) -> None:
    async def score(model: str) -> list[float]:
        wish = {"prompt_logprobs": 0, "cache_salt": model}  # each is computed anew
        text = "The ferry left the harbour a little after six, when the fog had begun to lift."
        answer = await client.completions.create(model=model, prompt=text, max_tokens=1, temperature=0, extra_body=wish)
        first, *tokens = answer.choices[0].model_dump()["prompt_logprobs"]
        assert first is None
        return [next(iter(token.values()))["logprob"] for token in tokens]

    alone = {model: await score(model) for model in ("smollm2", "support")}
    assert alone["smollm2"] != pytest.approx(alone["support"], abs=0.05)
    messages: Any = [{"role": "user", "content": "Tell me about the moon in detail."}]
    beside = asyncio.ensure_future(
        client.chat.completions.create(
            model="support", messages=messages, max_tokens=200, extra_body={"ignore_eos": True}
        )
    )
    await asyncio.sleep(1)
    mixed = {model: await score(model) for model in alone}
    assert not beside.done()
    await beside
    for model, expected in alone.items():
        assert mixed[model] == pytest.approx(expected, abs=0.05)
    assert stack.process.poll() is None


async def test_langchain_works_with_the_endpoint(stack: Stack) -> None:
    chat = ChatOpenAI(model="support", base_url=f"{stack.url}/v1", api_key=lambda: "none", max_completion_tokens=8)
    assert (await chat.ainvoke("Hello")).content
    assert "".join([str(piece.content) async for piece in chat.astream("Hello")])


async def test_a_prompt_that_is_too_long_is_refused_at_once(client: openai.AsyncOpenAI) -> None:
    started = time.monotonic()
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "word " * 20_000}])
    assert caught.value.code == "context_length_exceeded"
    assert time.monotonic() - started < 10


async def test_hanging_up_aborts_the_generation(stack: Stack) -> None:
    engine = stack.engine_url()
    body = {"model": "smollm2", "messages": ASK, "max_tokens": 4000, "ignore_eos": True}
    async with aiohttp.ClientSession() as http:
        calls = [
            asyncio.ensure_future(_post(http, stack.url, {**body, "stream": stream})) for stream in (True, False) * 4
        ]
        await _until(lambda: _running(engine) == len(calls), 30)
        for call in calls:
            call.cancel()
    left = time.monotonic()
    await _until(lambda: _running(engine) == 0, 3)
    assert time.monotonic() - left <= 3


async def test_documents_go_through_the_gateway_that_owns_the_store(stack: Stack, client: openai.AsyncOpenAI) -> None:
    folder = HOME / "extra"
    folder.mkdir(exist_ok=True)
    code = time.strftime("%H%M%S")
    (folder / "moon-office.md").write_text(f"# The moon office\n\nThe moon office opens with the code {code}.\n")
    (folder / "broken.pdf").write_bytes(b"this is not a PDF")
    done = await asyncio.to_thread(run_command, "ingest", str(folder), "--knowledge", "handbook")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "broken.pdf" in done.stderr
    question: Any = [{"role": "user", "content": "With which code does the moon office open?"}]
    answer = await client.chat.completions.create(model="handbook", messages=question, max_tokens=32)
    assert code in json.dumps(answer.model_dump()["breakeven"]["retrieval"]["passages"])
    async with aiohttp.ClientSession() as http:
        path = f"{stack.url}/v1/breakeven/knowledge/handbook/documents/moon-office.md"
        async with http.delete(path) as response:
            assert response.status == 200


def test_a_second_gateway_on_the_same_store_is_refused(stack: Stack) -> None:
    done = run_command("serve", "--port", "0")
    assert done.returncode == 1
    assert f"process {stack.process.pid}" in done.stderr
    assert "Traceback" not in done.stderr


async def test_requests_and_idle_time_add_up_to_the_bill(stack: Stack, client: openai.AsyncOpenAI) -> None:
    await client.chat.completions.create(model="smollm2", messages=ASK, max_tokens=8)
    await asyncio.sleep(2.5)  # two flushes of the ledger
    with sqlite3.connect(HOME / "ledger.db") as database:
        run, billed, busy, host, idle, left = database.execute(
            "SELECT run_id, billed_s, busy_s, host_s, idle_s, unallocated_idle_s FROM runs "
            "ORDER BY seen_at DESC LIMIT 1"
        ).fetchone()
        shares, taken = database.execute(
            "SELECT SUM(busy_s), SUM(idle_s) FROM requests WHERE run_id = ?", (run,)
        ).fetchone()
    assert busy + host + idle == pytest.approx(billed)
    assert shares == pytest.approx(busy, rel=1e-3)
    assert taken + left == pytest.approx(idle, rel=1e-3)
    assert stack.process.poll() is None


async def test_a_killed_engine_breaks_streams_openly_and_comes_back(stack: Stack, client: openai.AsyncOpenAI) -> None:
    body = {"model": "support", "messages": ASK, "max_tokens": 4000, "ignore_eos": True, "stream": True}
    async with aiohttp.ClientSession() as http:
        streams = [asyncio.ensure_future(_post(http, stack.url, body)) for _ in range(8)]
        engine = stack.engine_url()
        await _until(lambda: _running(engine) == len(streams), 60)
        os.kill(stack.engine_core(), signal.SIGKILL)
        killed = time.monotonic()
        for text in await asyncio.gather(*streams):
            assert b"[DONE]" not in text
            assert b'data: {"error"' in text
        assert time.monotonic() - killed < 5
        await _until(lambda: not _ready(stack), 2)
        with pytest.raises(openai.InternalServerError) as down:
            await client.chat.completions.create(model="support", messages=ASK)
        assert down.value.status_code == 503
        assert int(down.value.response.headers["retry-after"]) > 0
        await _until(lambda: _ready(stack), 300)
    # The adapter is there again, without a restart of the gateway.
    assert (
        (await client.chat.completions.create(model="support", messages=ASK, max_tokens=8)).choices[0].message.content
    )


def _ready(stack: Stack) -> bool:
    try:
        with urllib.request.urlopen(f"{stack.url}/readyz", timeout=5) as response:  # noqa: S310  # always loopback http
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False


def _running(engine: str) -> float:
    with urllib.request.urlopen(f"{engine}/metrics", timeout=5) as response:  # noqa: S310  # always loopback http
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bytes:
    async with http.post(f"{url}/v1/chat/completions", json=body) as response:
        return await response.read()


async def _until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)
