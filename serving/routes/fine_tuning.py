"""OpenAI's fine-tuning jobs, for operators: a trained adapter is a model that everybody here may use."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.auth import Caller
from serving.errors import BadRequest
from serving.openai import parse_json
from serving.routes.edge import gateway_of, json_response, operator_of, read_body
from serving.stores.paging import Wire, parse_page

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["OpenAI fine-tuning"])


@router.post("")
async def create_fine_tuning_job(request: Request) -> Response:
    """Queue the training of a LoRA adapter on an uploaded file of chat examples."""
    gateway, caller = gateway_of(request), operator_of(request)
    fields = parse_json(await read_body(request, gateway.settings.server.max_body_bytes))
    return json_response(await gateway.tuning.create(caller, fields))


@router.get("")
async def list_fine_tuning_jobs(request: Request) -> Response:
    """List the tenant's jobs, the newest first."""
    if any(name.startswith("metadata") for name in request.query_params):
        raise BadRequest("jobs cannot be listed by metadata; list all and choose", param="metadata")
    return json_response(await gateway_of(request).tuning.page(operator_of(request), parse_page(request.query_params)))


@router.get("/{job_id}")
async def retrieve_fine_tuning_job(request: Request, job_id: str) -> Response:
    """Describe a job: status, progress, cost so far, and the model when it has succeeded."""
    return await _answer(request, gateway_of(request).tuning.retrieve, job_id)


@router.post("/{job_id}/cancel")
async def cancel_fine_tuning_job(request: Request, job_id: str) -> Response:
    """Give a job up; what it has done is removed."""
    return await _answer(request, gateway_of(request).tuning.cancel, job_id)


@router.post("/{job_id}/pause")
async def pause_fine_tuning_job(request: Request, job_id: str) -> Response:
    """Stop a job at its next step, with a checkpoint."""
    return await _answer(request, gateway_of(request).tuning.pause, job_id)


@router.post("/{job_id}/resume")
async def resume_fine_tuning_job(request: Request, job_id: str) -> Response:
    """Let a paused job go on from its checkpoint."""
    return await _answer(request, gateway_of(request).tuning.resume, job_id)


@router.get("/{job_id}/events")
async def list_fine_tuning_events(request: Request, job_id: str) -> Response:
    """List what has happened to a job, the newest first."""
    page = parse_page(request.query_params)
    return json_response(await gateway_of(request).tuning.events(operator_of(request), job_id, page))


@router.get("/{job_id}/checkpoints")
async def list_fine_tuning_job_checkpoints(request: Request, job_id: str) -> Response:
    """List the checkpoints of a job, the newest first."""
    page = parse_page(request.query_params)
    return json_response(await gateway_of(request).tuning.checkpoints(operator_of(request), job_id, page))


async def _answer(request: Request, call: Callable[[Caller, str], Awaitable[Wire]], job_id: str) -> Response:
    found: dict[str, Any] = await call(operator_of(request), job_id)
    return json_response(found)
