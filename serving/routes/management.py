"""Management of knowledge bases over HTTP, for operators; searching is for every caller, within its scope."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serving.auth import EVERYONE
from serving.errors import BadRequest
from serving.openai import parse_json
from serving.routes.edge import caller_of, gateway_of, json_response, operator_of, read_body

router = APIRouter(prefix="/v1/breakeven", tags=["Breakeven"])


@router.get("/knowledge")
async def list_knowledge(request: Request) -> Response:
    """List the knowledge bases of the caller's tenant."""
    names = await gateway_of(request).knowledge.names(operator_of(request))
    return json_response({"object": "list", "data": [{"id": name, "object": "knowledge"} for name in names]})


@router.get("/knowledge/{knowledge}/documents")
async def list_documents(request: Request, knowledge: str) -> Response:
    """List the documents of a knowledge base."""
    documents = await gateway_of(request).knowledge.documents(operator_of(request), knowledge)
    return json_response({"object": "list", "data": [_plain(asdict(document)) for document in documents]})


@router.put("/knowledge/{knowledge}/documents/{source:path}")
async def put_document(
    request: Request, knowledge: str, source: str, group: Annotated[Sequence[str], Query()] = (EVERYONE,)
) -> Response:
    """Add or replace one document: the body is the file, `source` its name, `group` who may read it."""
    gateway = gateway_of(request)
    caller = operator_of(request)
    _check_source(source)
    data = await read_body(request, gateway.settings.server.max_document_bytes)
    ingested = await gateway.knowledge.ingest(caller, knowledge, source, data, frozenset(group))
    return json_response(asdict(ingested))


@router.delete("/knowledge/{knowledge}/documents/{source:path}")
async def delete_document(request: Request, knowledge: str, source: str) -> Response:
    """Remove one document."""
    await gateway_of(request).knowledge.remove(operator_of(request), knowledge, source)
    return json_response({"source": source, "deleted": True})


@router.post("/knowledge/{knowledge}/search")
async def search(request: Request, knowledge: str) -> Response:
    """Find passages: `{"query", "top_k", "min_score", "filter"}`."""
    gateway = gateway_of(request)
    caller = caller_of(request)
    fields = parse_json(await read_body(request, gateway.settings.server.max_body_bytes))
    if not isinstance(fields.get("query"), str) or not fields["query"].strip():
        raise BadRequest("`query` must be a non-empty string", param="query")
    return json_response(await gateway.knowledge.search(caller, knowledge, fields, gateway.limits))


def _check_source(source: str) -> None:
    # Clients may save a cited document under its name: none may lead out of a folder.
    parts = source.split("/")
    if not source.isprintable() or any(part in ("", ".", "..") for part in parts) or len(source) > 1024:
        raise BadRequest(f"{source[:100]!r} is not a relative path of plain names", param="source")


def _plain(document: dict[str, object]) -> dict[str, object]:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in document.items()}
