"""OpenAI's vector stores: management for operators, search for every caller within its scope."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.openai import parse_json
from serving.routes.edge import caller_of, gateway_of, json_response, operator_of, read_body
from serving.stores.paging import Wire, parse_page

router = APIRouter(prefix="/v1/vector_stores", tags=["OpenAI vector stores"])


@router.post("")
async def create_vector_store(request: Request) -> Response:
    """Create a vector store, which is a knowledge base; `breakeven.groups` says who may read its `file_ids`."""
    caller, fields = operator_of(request), await _fields(request)
    return json_response(await gateway_of(request).stores.vector_stores.create(caller, fields))


@router.get("")
async def list_vector_stores(request: Request) -> Response:
    """List the tenant's vector stores: all its knowledge bases, however they were filled."""
    page = parse_page(request.query_params)
    return json_response(await gateway_of(request).stores.vector_stores.page(operator_of(request), page))


@router.get("/{store_id}")
async def retrieve_vector_store(request: Request, store_id: str) -> Response:
    """Describe a vector store; its id or the knowledge base's name will do."""
    return _polled(await gateway_of(request).stores.vector_stores.retrieve(operator_of(request), store_id))


@router.post("/{store_id}")
async def update_vector_store(request: Request, store_id: str) -> Response:
    """Change name, metadata or expiry."""
    caller, fields = operator_of(request), await _fields(request)
    return json_response(await gateway_of(request).stores.vector_stores.update(caller, store_id, fields))


@router.delete("/{store_id}")
async def delete_vector_store(request: Request, store_id: str) -> Response:
    """Delete a vector store with its passages; the files stay."""
    return json_response(await gateway_of(request).stores.vector_stores.delete(operator_of(request), store_id))


@router.post("/{store_id}/search")
async def search_vector_store(request: Request, store_id: str) -> Response:
    """Find passages: `{"query", "filters", "max_num_results", "ranking_options"}`."""
    gateway, caller, fields = gateway_of(request), caller_of(request), await _fields(request)
    return json_response(await gateway.stores.search.search(caller, store_id, fields, gateway.limits))


@router.post("/{store_id}/files")
async def create_vector_store_file(request: Request, store_id: str) -> Response:
    """Attach a file; it is ingested in the background."""
    caller, fields = operator_of(request), await _fields(request)
    return json_response(await gateway_of(request).stores.vector_stores.attach(caller, store_id, fields))


@router.get("/{store_id}/files")
async def list_vector_store_files(request: Request, store_id: str) -> Response:
    """List what is in a vector store."""
    caller, query = operator_of(request), request.query_params
    found = gateway_of(request).stores.vector_stores.files(caller, store_id, parse_page(query), query.get("filter"))
    return json_response(await found)


@router.get("/{store_id}/files/{file_id}")
async def retrieve_vector_store_file(request: Request, store_id: str, file_id: str) -> Response:
    """How far the ingestion of a file is."""
    caller = operator_of(request)
    return _polled(await gateway_of(request).stores.vector_stores.file(caller, store_id, file_id))


@router.post("/{store_id}/files/{file_id}")
async def update_vector_store_file(request: Request, store_id: str, file_id: str) -> Response:
    """Change a file's attributes."""
    caller, fields = operator_of(request), await _fields(request)
    return json_response(await gateway_of(request).stores.vector_stores.retag(caller, store_id, file_id, fields))


@router.delete("/{store_id}/files/{file_id}")
async def delete_vector_store_file(request: Request, store_id: str, file_id: str) -> Response:
    """Take a file out of a vector store."""
    caller = operator_of(request)
    return json_response(await gateway_of(request).stores.vector_stores.detach(caller, store_id, file_id))


@router.get("/{store_id}/files/{file_id}/content")
async def vector_store_file_content(request: Request, store_id: str, file_id: str) -> Response:
    """The text that was read of a file."""
    caller = operator_of(request)
    return json_response(await gateway_of(request).stores.vector_stores.content(caller, store_id, file_id))


@router.post("/{store_id}/file_batches")
async def create_file_batch(request: Request, store_id: str) -> Response:
    """Attach many files."""
    caller, fields = operator_of(request), await _fields(request)
    return json_response(await gateway_of(request).stores.vector_stores.attach_batch(caller, store_id, fields))


@router.get("/{store_id}/file_batches/{batch_id}")
async def retrieve_file_batch(request: Request, store_id: str, batch_id: str) -> Response:
    """How far a batch is."""
    caller = operator_of(request)
    return _polled(await gateway_of(request).stores.vector_stores.batch(caller, store_id, batch_id))


@router.post("/{store_id}/file_batches/{batch_id}/cancel")
async def cancel_file_batch(request: Request, store_id: str, batch_id: str) -> Response:
    """Leave out what is not yet ingested."""
    caller = operator_of(request)
    return json_response(await gateway_of(request).stores.vector_stores.cancel_batch(caller, store_id, batch_id))


@router.get("/{store_id}/file_batches/{batch_id}/files")
async def list_file_batch_files(request: Request, store_id: str, batch_id: str) -> Response:
    """List the files of a batch."""
    caller, query = operator_of(request), request.query_params
    page, status = parse_page(query), query.get("filter")
    found = await gateway_of(request).stores.vector_stores.batch_files(caller, store_id, batch_id, page, status)
    return json_response(found)


def _polled(found: Wire) -> Response:
    # How soon OpenAI's polling helpers ask again; they would wait a second.
    return json_response(found, headers={"openai-poll-after-ms": "250"})


async def _fields(request: Request) -> dict[str, Any]:
    body = await read_body(request, gateway_of(request).settings.server.max_body_bytes)
    return parse_json(body) if body else {}
