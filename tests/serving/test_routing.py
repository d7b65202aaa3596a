"""Routers: which served model answers, what its choice cost, and that a failing classifier costs nobody an answer."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from serving.auth import LOCAL_OPERATOR
from serving.engine.protocol import EngineResponse
from serving.engine.simulated import SimulatedEngine
from serving.errors import EngineUnavailable
from serving.routing import Routing
from serving.sections import ServedModel
from tests.serving.gateways import MODELS, Running, running, settings_for

ROUTER: dict[str, Any] = {
    "model": "classifier",
    "labels": {"rain gauge": "books", "greeting": "polite"},
    "min_confidence": 0.8,
    "fallback": "plain",
}
ROUTED = {**MODELS, "classifier": {"system_prompt": "Intent"}, "desk": {"router": ROUTER}}
RAIN, HELLO, UNSURE = "how much water does the rain gauge hold", "a greeting to you", "something else"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path, models=ROUTED)) as started:
        yield started


@pytest.fixture
async def client(stack: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


async def ask(client: openai.AsyncOpenAI, text: str, **fields: Any) -> dict[str, Any]:
    messages: Any = [{"role": "user", "content": text}]
    answer = await client.chat.completions.create(model="desk", messages=messages, **fields)
    found: dict[str, Any] = (answer.model_extra or {})["breakeven"]
    return found


@pytest.mark.parametrize(
    ("text", "label", "reason", "model"),
    [
        (RAIN, "rain gauge", "label", "books"),
        (HELLO, "greeting", "label", "polite"),
        (UNSURE, "rain gauge", "unsure", "plain"),
    ],
)
async def test_the_label_picks_the_served_model(
    client: openai.AsyncOpenAI, text: str, label: str, reason: str, model: str
) -> None:
    found = await ask(client, text)
    routing = found["routing"]
    assert (routing["router"], routing["label"], routing["reason"]) == ("desk", label, reason)
    assert routing["served_model"] == found["served_model"] == model
    # Two shared words of weight 10, one, or none, against 1 for the other label.
    assert routing["confidence"] == pytest.approx({RAIN: 21 / 22, HELLO: 11 / 12, UNSURE: 1 / 2}[text], abs=1e-5)
    assert ("retrieval" in found) == (model == "books")


async def test_its_tokens_and_cost_are_a_part_of_the_answers(stack: Running, client: openai.AsyncOpenAI) -> None:
    found = await ask(client, HELLO)
    routing = found["routing"]
    # "Intent" and the four words of the question; the label is one token of the simulator's.
    assert routing["tokens"] == {"prompt": 5, "completion": 1}
    assert found["tokens"]["prompt"] == 5 + 6  # the prompts of both
    assert found["tokens"]["completion"] == 1 + 5
    assert 0 < float(routing["cost"]["usage_usd"]) < float(found["cost"]["usage_usd"])
    bill = stack.gateway.completions.trace(LOCAL_OPERATOR, "chat").meter.bill()
    assert bill.busy_s == pytest.approx(found["cost"]["busy_seconds"], abs=1e-5)


async def test_a_streamed_answer_says_how_it_was_routed(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": RAIN}]
    stream = await client.chat.completions.create(model="desk", messages=messages, stream=True)
    last = [chunk async for chunk in stream][-1]
    assert (last.model_extra or {})["breakeven"]["routing"]["served_model"] == "books"


async def test_a_response_is_routed_too(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="desk", input=HELLO, store=False)
    assert (answer.model_extra or {})["breakeven"]["routing"]["served_model"] == "polite"


async def test_the_ledger_and_the_metrics_have_it(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, models=ROUTED)) as stack:
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
            found = await ask(client, RAIN)
        exposition = stack.gateway.metrics.exposition().decode()
    assert 'breakeven_routed_total{model="books",reason="label",router="desk"} 1.0' in exposition
    assert 'breakeven_requests_total{endpoint="chat",model="books",outcome="complete"} 1.0' in exposition
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        (row,) = database.execute("SELECT request_id, router, label, model, reason, usage_usd FROM routes")
    assert row[:5] == (found["request_id"], "desk", "rain gauge", "books", "label")
    assert row[5] == found["routing"]["cost"]["usage_usd"]


async def test_text_completions_have_no_message_to_route_by(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="last user message"):
        await client.completions.create(model="desk", prompt="hello")


async def test_models_say_that_they_route(client: openai.AsyncOpenAI) -> None:
    model = await client.models.retrieve("desk")
    assert (model.model_extra or {})["breakeven"]["router"]["labels"] == ROUTER["labels"]


class Broken(SimulatedEngine):
    """An engine that cannot classify: constrained requests fail as a real one's might."""

    failure: str = "status"

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[EngineResponse]:
        request = orjson.loads(body)
        if "structured_outputs" in request:
            if self.failure == "unavailable":
                raise EngineUnavailable("the engine is not ready")
            choice = {"structured_outputs": {"choice": ["neither"]}} if self.failure == "strange" else {}
            request = {"model": "nobody's"} if self.failure == "status" else {**request, "logprobs": False, **choice}
        async with super().post(path, orjson.dumps(request)) as response:
            yield response


@pytest.mark.parametrize("failure", ["status", "unavailable", "no probabilities", "strange"])
async def test_a_failing_classifier_costs_nobody_an_answer(tmp_path: Path, failure: str) -> None:
    settings = settings_for(tmp_path, models=ROUTED)
    async with running(settings) as stack:
        engine = Broken(settings.engine)
        engine.failure = failure
        await engine.start(lambda _: None)
        routing = Routing(stack.gateway.rollout.traffic, engine)
        trace = stack.gateway.completions.trace(LOCAL_OPERATOR, "chat")
        async with routing.admit(trace, "desk", None, RAIN) as served:
            assert served.name == "plain"
        assert trace.routing is not None
        assert (trace.routing.reason, trace.routing.label, trace.routing.model) == ("failed", None, "plain")
        trace.end("complete", 200)
        exposition = stack.gateway.metrics.exposition().decode()
        assert 'breakeven_routed_total{model="plain",reason="failed",router="desk"} 1.0' in exposition
        await engine.stop()


@pytest.mark.parametrize(
    ("router", "needs"),
    [
        ({**ROUTER, "fallback": "nobody"}, "nobody"),
        ({**ROUTER, "labels": {"a": "plain", "b": "desk"}}, "desk"),
        ({**ROUTER, "model": "missing"}, "missing"),
    ],
)
async def test_a_router_without_its_models_is_left_out(tmp_path: Path, router: dict[str, Any], needs: str) -> None:
    async with running(settings_for(tmp_path, models={**ROUTED, "desk": {"router": router}})) as stack:
        assert "desk" not in stack.gateway.catalogue.names
        (line,) = stack.gateway.catalogue.left_out
        assert line.startswith("desk is left out")
        assert needs in line


def test_a_router_has_no_adapter_of_its_own() -> None:
    with pytest.raises(ValueError, match="leave out adapter, knowledge"):
        ServedModel.model_validate({"router": ROUTER, "adapter": "a", "knowledge": "b"})
