"""Citations over HTTP: counted and marked, whole and streamed, while the text stays as the engine wrote it.

The simulated engine repeats the beginning of its prompt, so the instructions decide what it "cites".
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving.gateways import Running, running, settings_for

ASK: Any = [{"role": "user", "content": "rain gauge holds how much water"}]
MODELS = {
    "citing": {"knowledge": "books", "min_score": 0.2, "instructions": "See [1] and [9]."},
    "silent": {"knowledge": "books", "min_score": 0.2, "instructions": "Say it: a b c d e f g h i j k l m n o p q r."},
}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path, models=MODELS)) as started:
        yield started


async def answered(stack: Running, model: str, stream: bool) -> tuple[str, list[Any], dict[str, Any]]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        if not stream:
            whole: Any = await client.chat.completions.create(model=model, messages=ASK)
            message = whole.choices[0].message
            return message.content, message.annotations, whole.model_extra["breakeven"]["retrieval"]
        chunks: list[Any] = [
            chunk async for chunk in await client.chat.completions.create(model=model, messages=ASK, stream=True)
        ]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return text, chunks[-2].choices[0].delta.annotations, chunks[-1].model_extra["breakeven"]["retrieval"]


def plain(annotation: Any) -> dict[str, Any]:
    whole = annotation if isinstance(annotation, dict) else annotation.model_dump()
    found: dict[str, Any] = whole["file_citation"]
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_citations_are_checked_and_the_text_is_left_alone(stack: Running, stream: bool) -> None:
    text, annotations, retrieval = await answered(stack, "citing", stream)
    assert text.startswith("See [1] and [9]. Passages: [1] Gauges")
    assert retrieval["citations"] == {"matched": [1], "unmatched": [9]}
    assert [plain(each)["cited"] for each in annotations] == [True]
    exposition = stack.gateway.metrics.exposition().decode()
    assert 'breakeven_citations_total{matched="yes",model="citing"} 1.0' in exposition
    assert 'breakeven_citations_total{matched="no",model="citing"} 1.0' in exposition


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_numbers_keeps_its_annotations(stack: Running, stream: bool) -> None:
    _, annotations, retrieval = await answered(stack, "silent", stream)
    assert retrieval["citations"] == {"matched": [], "unmatched": []}
    assert [set(plain(each)) for each in annotations] == [
        {"file_id", "filename", "title", "passage_id", "number", "score", "start_index", "end_index"}
    ]


async def test_an_abstention_saves_what_answers_took(stack: Running) -> None:
    off: Any = [{"role": "user", "content": "xylophone quantum zebra"}]

    def saved(kind: str) -> float:
        lines = stack.gateway.metrics.exposition().decode().splitlines()
        name = f'breakeven_abstention_saved_{kind}_total{{model="silent"}} '
        return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        await client.chat.completions.create(model="silent", messages=off)
        assert (saved("tokens"), saved("usd")) == (0, 0)  # nothing is known yet
        whole = await client.chat.completions.create(model="silent", messages=ASK)
        await client.chat.completions.create(model="silent", messages=off)
    assert whole.usage is not None
    assert saved("tokens") == pytest.approx(whole.usage.total_tokens)
    cost = (whole.model_extra or {})["breakeven"]["cost"]
    assert saved("usd") == pytest.approx(float(cost["usage_usd"]), abs=1e-9)
