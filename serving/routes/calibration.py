"""Calibrating a knowledge base over HTTP, for operators: an event stream, because it takes a while."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from retrieval.calibration import LabelledQuestion, parse_questions
from retrieval.errors import RetrievalError
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
    gateway = gateway_of(request)
    caller = operator_of(request)
    questions, precision = _wish(parse_json(await read_body(request, gateway.settings.server.max_body_bytes)))

    async def run(reply: Reply) -> None:
        started = False
        try:
            async for step in gateway.knowledge.calibrate(caller, knowledge, questions, precision):
                if not started:
                    started = True
                    await reply.start({})
                told: dict[str, Any] = {"done": step.done, "total": step.total}
                if step.calibration is not None:
                    told["calibration"] = step.calibration.summary()
                await reply.write(b"data: " + orjson.dumps(told) + b"\n\n")
        except GatewayError as error:
            if not started:
                raise
            await reply.write(error.event())

    return Answer(run)


def _wish(fields: Mapping[str, Any]) -> tuple[list[LabelledQuestion] | None, float]:
    rows, precision = fields.get("questions"), fields.get("precision", 0.9)
    if isinstance(precision, bool) or not isinstance(precision, int | float):
        raise BadRequest("`precision` must be a number", param="precision")
    if rows is None:
        return None, precision
    if not isinstance(rows, list):
        raise BadRequest("`questions` must be a list", param="questions")
    try:
        return parse_questions(rows), precision
    except RetrievalError as error:
        raise from_retrieval(error) from error
