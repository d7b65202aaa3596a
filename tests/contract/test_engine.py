"""What every engine must do, run over the simulator and over a real vLLM: a fake that differs proves nothing."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from serving.engine import AdapterRefused, Engine, LoraModule
from serving.engine.seconds import EngineSeconds
from serving.engine.simulated import SimulatedEngine
from serving.engine.vllm import VllmClient
from serving.errors import EngineUnavailable
from serving.sections import Engine as EngineSettings
from tests.conftest import Stack

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "support" / "adapter"
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count from one to five."}],
    "max_tokens": 6,
    "temperature": 0,
}


@pytest.fixture(params=["simulated", pytest.param("vllm", marks=pytest.mark.e2e)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    settings = EngineSettings.model_validate({"simulated_ttft_s": 0, "simulated_itl_s": 0})
    made: Engine = SimulatedEngine(settings)
    if request.param == "vllm":
        running: Stack = request.getfixturevalue("stack")
        made = VllmClient(settings, running.engine_url(), running.engine_key())
    await made.start(lambda _: None)
    yield made
    await made.stop()


async def post(engine: Engine, path: str = CHAT, **fields: Any) -> tuple[int, bytes]:
    body = orjson.dumps({"model": engine.base_model, **fields})
    async with engine.post(path, body) as response:
        return response.status, b"".join([piece async for piece in response.chunks()])


def events(data: bytes) -> list[Any]:
    found = [part.removeprefix(b"data: ") for part in data.split(b"\n\n") if part]
    assert found.pop() == b"[DONE]"
    return [orjson.loads(part) for part in found]


async def test_a_whole_answer(engine: Engine) -> None:
    status, body = await post(engine, **ASK)
    answer = orjson.loads(body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == engine.base_model
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert 0 < answer["usage"]["completion_tokens"] <= 6
    assert answer["usage"]["prompt_tokens"] > 0
    assert "cached_tokens" in answer["usage"]["prompt_tokens_details"]


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream(engine: Engine, n: int) -> None:
    # Several choices of one greedy request would be equal; vLLM refuses that.
    options = {"temperature": 0.7, "stream_options": {"include_usage": True}}
    _, body = await post(engine, **{**ASK, **options}, stream=True, n=n)
    chunks = events(body)
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    choices = [choice for each in chunks[:-1] for choice in each["choices"]]
    assert sum(choice["finish_reason"] is not None for choice in choices) == n
    assert {choice["index"] for choice in choices} == set(range(n))
    assert chunks[-1]["choices"] == []
    assert 0 < chunks[-1]["usage"]["completion_tokens"] <= 6 * n
    assert len({each["id"] for each in chunks}) == 1


async def test_a_stream_without_usage_has_none(engine: Engine) -> None:
    _, body = await post(engine, **ASK, stream=True)
    assert not [each for each in events(body) if each.get("usage")]


async def test_a_text_completion(engine: Engine) -> None:
    _, body = await post(engine, "/v1/completions", prompt="One, two,", max_tokens=4)
    answer = orjson.loads(body)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"]


async def test_a_constrained_choice_comes_with_its_probability(engine: Engine) -> None:
    choices = ["a number", "a colour", "something else entirely"]
    constraint = {"structured_outputs": {"choice": choices}, "logprobs": True, "max_tokens": 40}
    _, body = await post(engine, **{**ASK, **constraint})
    answer = orjson.loads(body)
    (choice,) = answer["choices"]
    assert choice["message"]["content"] in choices
    assert choice["finish_reason"] == "stop"
    # Among the tokens that the constraint leaves, so that a choice has a share of 1 that one can compare.
    likely = [token["logprob"] for token in choice["logprobs"]["content"]]
    assert 0.1 < math.exp(sum(likely)) <= 1
    assert answer["usage"]["completion_tokens"] >= len(likely)


async def test_equal_requests_get_equal_answers(engine: Engine) -> None:
    answers = [orjson.loads((await post(engine, **ASK, seed=3))[1])["choices"][0]["message"] for _ in range(2)]
    assert answers[0] == answers[1]


async def test_a_prompt_over_the_context_is_a_400_that_says_so(engine: Engine) -> None:
    long = [{"role": "user", "content": "word " * 20_000}]
    status, body = await post(engine, messages=long)
    assert status == 400
    assert "maximum context length" in orjson.loads(body)["error"]["message"]


async def test_leaving_early_is_possible_at_any_time(engine: Engine) -> None:
    body = orjson.dumps({"model": engine.base_model, **ASK, "stream": True, "max_tokens": 2000})
    async with engine.post(CHAT, body) as response:
        async for _ in response.chunks():
            break
    assert (await post(engine, **ASK))[0] == 200


async def test_many_at_once(engine: Engine) -> None:
    answers = await asyncio.gather(*(post(engine, **ASK, stream=index % 2 == 0) for index in range(12)))
    assert {status for status, _ in answers} == {200}


async def test_a_stopped_engine_is_unavailable(engine: Engine) -> None:
    await engine.stop()
    with pytest.raises(EngineUnavailable):
        await post(engine, **ASK)


async def test_a_response(engine: Engine) -> None:
    status, body = await post(
        engine, RESPONSES, input="Count.", instructions="Be brief.", max_output_tokens=6, store=False
    )
    answer = orjson.loads(body)
    assert (status, answer["object"], answer["instructions"]) == (200, "response", "Be brief.")
    assert answer["status"] in ("completed", "incomplete")
    assert [item["type"] for item in answer["output"]] == ["message"]
    assert answer["output"][0]["content"][0]["type"] == "output_text"
    assert answer["usage"]["input_tokens"] > 0
    assert 0 < answer["usage"]["output_tokens"] <= 6
    assert "cached_tokens" in answer["usage"]["input_tokens_details"]


async def test_a_streamed_response(engine: Engine) -> None:
    _, body = await post(engine, RESPONSES, input="Count.", max_output_tokens=6, store=False, stream=True)
    parts = [part.split(b"\ndata: ") for part in body.split(b"\n\n") if part]
    found = [orjson.loads(data) for _, data in parts]
    kinds = [each["type"] for each in found]
    assert [name.removeprefix(b"event: ").decode() for name, _ in parts] == kinds
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    text = "".join(each["delta"] for each in found if each["type"] == "response.output_text.delta")
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == text == found[-4]["text"]
    assert found[-1]["response"]["usage"]["output_tokens"] > 0


def lora(name: str, path: Path = SAMPLE) -> LoraModule:
    return LoraModule(name, path, 8)


async def test_an_adapter_is_loaded_answers_under_its_name_and_is_unloaded(engine: Engine) -> None:
    name = "contract@000000000001"
    assert engine.refusal(name) is not None
    assert (await post(engine, **{**ASK, "model": name}))[0] == 404
    await engine.load_adapter(lora(name))
    await engine.load_adapter(lora(name))  # once more changes nothing
    assert engine.refusal(name) is None
    status, body = await post(engine, **{**ASK, "model": name})
    assert (status, orjson.loads(body)["model"]) == (200, name)
    await engine.unload_adapter(name)
    assert engine.refusal(name) is not None
    assert (await post(engine, **{**ASK, "model": name}))[0] == 404
    assert (await post(engine, **ASK))[0] == 200


async def test_an_adapter_that_cannot_be_loaded_affects_its_own_name_only(engine: Engine, tmp_path: Path) -> None:
    good, bad = "contract@000000000002", "contract@000000000003"
    await engine.load_adapter(lora(good))
    with pytest.raises(AdapterRefused):
        await engine.load_adapter(lora(bad, tmp_path / "nothing"))
    assert engine.refusal(bad)
    assert (await post(engine, **{**ASK, "model": bad}))[0] == 404
    assert (await post(engine, **{**ASK, "model": good}))[0] == 200
    assert (await post(engine, **ASK))[0] == 200
    await engine.unload_adapter(good)


async def test_what_the_engine_is_asked_for_while_it_is_stopped_fails(engine: Engine) -> None:
    await engine.stop()
    with pytest.raises(EngineUnavailable):
        await engine.load_adapter(lora("contract@000000000004"))


async def test_more_adapters_than_fit_into_one_batch_all_answer(engine: Engine) -> None:
    names = [f"contract@{number:012x}" for number in range(16, 16 + 6)]
    for name in names:
        await engine.load_adapter(lora(name))
    answers = await asyncio.gather(*(post(engine, **{**ASK, "model": name}) for name in names * 2))
    assert [orjson.loads(body)["model"] for _, body in answers] == names * 2
    for name in names:
        await engine.unload_adapter(name)


async def test_what_it_measured_of_its_requests(engine: Engine) -> None:
    await post(engine, **ASK)
    before = await _counted(engine, 1)
    _, body = await post(engine, **ASK, seed=11)
    _, streamed = await post(engine, **ASK, stream=True, stream_options={"include_usage": True})
    after = await _counted(engine, before.requests + 2)
    assert after.requests == before.requests + 2
    usages = (orjson.loads(body)["usage"], events(streamed)[-1]["usage"])
    assert after.generated_tokens - before.generated_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert after.computed_tokens > before.computed_tokens
    assert min(after.queue_s - before.queue_s, after.prefill_s - before.prefill_s) >= 0
    assert after.decode_s >= before.decode_s


async def _counted(engine: Engine, requests: float) -> EngineSeconds:
    """What it has measured once that many are in it: an engine may count an answer just after it has sent it."""
    for _ in range(100):
        if (found := await engine.measured()) is not None and found.requests >= requests:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it has measured no {requests} requests")
