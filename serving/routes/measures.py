"""Measuring a knowledge base over HTTP, for operators: event streams, because it takes a while."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from retrieval.errors import RetrievalError
from retrieval.questions import LabelledQuestion, parse_questions
from serving.errors import BadRequest, GatewayError, from_retrieval
from serving.openai import parse_json
from serving.reply import Reply
from serving.routes.edge import Answer, caller_of, gateway_of, json_response, operator_of, read_body

router = APIRouter(prefix="/v1/breakeven", tags=["Breakeven"])


@router.get("/knowledge/{knowledge}/calibration")
async def get_calibration(request: Request, knowledge: str) -> Response:
    """What a knowledge base's minimum score was measured on, and the share of its documents that changed since."""
    return json_response(await gateway_of(request).knowledge.calibration(caller_of(request), knowledge))


@router.post("/knowledge/{knowledge}/calibration")
async def calibrate(request: Request, knowledge: str) -> Response:
    """Measure and set the minimum score: `{"questions": [{"question", "file"}], "precision"}`. The answer is an event
    stream of `{"done", "total"}` that ends with `{"calibration"}`."""
    caller, fields = operator_of(request), await _fields(request)
    precision = fields.get("precision", 0.9)
    if isinstance(precision, bool) or not isinstance(precision, int | float):
        raise BadRequest("`precision` must be a number", param="precision")
    questions = None if fields.get("questions") is None else _questions(fields)
    steps = gateway_of(request).knowledge.calibrate(caller, knowledge, questions, precision)

    async def told() -> AsyncIterator[dict[str, Any]]:
        async for step in steps:
            found = {} if step.calibration is None else {"calibration": step.calibration.summary()}
            yield {"done": step.done, "total": step.total, **found}

    return _events(told())


@router.get("/knowledge/{knowledge}/reranking")
async def get_reranking(request: Request, knowledge: str) -> Response:
    """What was measured of the configured reranker on a knowledge base, and whether it is used there."""
    return json_response(await gateway_of(request).knowledge.reranking(caller_of(request), knowledge))


@router.post("/knowledge/{knowledge}/reranking")
async def judge_reranking(request: Request, knowledge: str) -> Response:
    """Measure whether the configured reranker helps: `{"questions": [{"question", "file"}]}`. The answer is an event
    stream of `{"done", "total"}` that ends with `{"verdict"}`, which is in force from then on."""
    caller, questions = operator_of(request), _questions(await _fields(request))
    steps = gateway_of(request).knowledge.judge_reranking(caller, knowledge, questions)

    async def told() -> AsyncIterator[dict[str, Any]]:
        async for step in steps:
            found = {} if step.verdict is None else {"verdict": step.verdict.summary()}
            yield {"done": step.done, "total": step.total, **found}

    return _events(told())


def _events(steps: AsyncIterator[dict[str, Any]]) -> Answer:
    """An event for each step. What fails before the first is an error like any other, later it is the last event."""

    async def run(reply: Reply) -> None:
        started = False
        try:
            async for step in steps:
                if not started:
                    started = True
                    await reply.start({})
                await reply.write(b"data: " + orjson.dumps(step) + b"\n\n")
        except GatewayError as error:
            if not started:
                raise
            await reply.write(error.event())

    return Answer(run)


async def _fields(request: Request) -> Mapping[str, Any]:
    return parse_json(await read_body(request, gateway_of(request).settings.server.max_body_bytes))


def _questions(fields: Mapping[str, Any]) -> list[LabelledQuestion]:
    rows = fields.get("questions")
    if not isinstance(rows, list):
        raise BadRequest("`questions` must be a list", param="questions")
    try:
        return parse_questions(rows)
    except RetrievalError as error:
        raise from_retrieval(error) from error
