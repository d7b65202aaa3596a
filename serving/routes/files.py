"""OpenAI's files, for operators: a file may hold what not every caller of its tenant may read."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from serving.errors import BadRequest, BodyTooLarge
from serving.routes.edge import gateway_of, json_response, operator_of
from serving.stores.files import PURPOSES, check_upload
from serving.stores.paging import parse_page

router = APIRouter(prefix="/v1/files", tags=["OpenAI files"])
_FORM_BYTES = 65_536  # what the form adds to the file
_MOST_LISTED = 10_000
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer"},
    },
}
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _SCHEMA}}}}


@router.post("", openapi_extra=_UPLOAD)
async def create_file(request: Request) -> Response:
    """Upload a file to attach to vector stores."""
    gateway, caller = gateway_of(request), operator_of(request)
    limit = gateway.settings.server.max_document_bytes
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest("send the file as multipart/form-data, as `client.files.create` does")
    try:
        form = await MultiPartParser(request.headers, _bounded(request, limit), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError) as error:
        raise BadRequest(f"the form cannot be read: {error}; send it as `client.files.create` does") from None
    except ClientDisconnect:
        raise BadRequest("the client left before its upload was whole") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise BadRequest("`file` must be a file", param="file")
        if (file.size or 0) > limit:
            raise BodyTooLarge(f"the file has {file.size} bytes, the limit is {limit}")
        texts = [form.get(name) for name in ("purpose", "expires_after[anchor]", "expires_after[seconds]")]
        purpose, anchor, seconds = (each if isinstance(each, str) else None for each in texts)
        upload = check_upload(file.filename, file.size or 0, purpose or "", anchor, seconds)
        return json_response(await gateway.stores.upload(caller, upload, file.file))
    finally:
        await form.close()


@router.get("")
async def list_files(request: Request) -> Response:
    """List the tenant's files."""
    page = parse_page(request.query_params, _MOST_LISTED, _MOST_LISTED)
    purpose = request.query_params.get("purpose")
    return json_response(await gateway_of(request).stores.files(operator_of(request), page, purpose))


@router.get("/{file_id}")
async def retrieve_file(request: Request, file_id: str) -> Response:
    """Describe one file."""
    return json_response(await gateway_of(request).stores.file(operator_of(request), file_id))


@router.delete("/{file_id}")
async def delete_file(request: Request, file_id: str) -> Response:
    """Delete a file, out of every vector store too."""
    return json_response(await gateway_of(request).stores.delete_file(operator_of(request), file_id))


@router.get("/{file_id}/content")
async def file_content(request: Request, file_id: str) -> Response:
    """The bytes of a file."""
    file, pieces = await gateway_of(request).stores.content(operator_of(request), file_id)
    # Never as a page: it is somebody's upload.
    headers = {"x-content-type-options": "nosniff", "content-disposition": "attachment"}
    headers["content-length"] = str(file.bytes)
    return StreamingResponse(pieces, headers=headers, media_type="application/octet-stream")


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    size, most = 0, limit + _FORM_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise BodyTooLarge(f"the upload has {declared} bytes, the limit for a file is {limit}")
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise BodyTooLarge(f"the upload is over the limit for a file of {limit} bytes")
        yield piece
