"""Every call in which an id of another tenant can be named: path and body with places for ids.

`store`, `file` and `batch` are the other's, `own_store` and `own_file` the caller's. All of them must be 404.
"""

import re
from typing import Any

_STORE, _ITEM = "/vector_stores/{store}", "/vector_stores/{store}/files/{file}"
_OWN_ITEM = "/vector_stores/{own_store}/files/{file}"
_QUESTION = [{"role": "user", "content": "secret"}]
_TOOLS = [{"type": "file_search", "vector_store_ids": ["{store}"]}]
_BOTH = [{"type": "file_search", "vector_store_ids": ["{own_store}", "{store}"]}]
ATTEMPTS: list[tuple[str, str, Any]] = [
    ("GET", "/files/{file}", None),
    ("GET", "/files/{file}/content", None),
    ("DELETE", "/files/{file}", None),
    ("GET", _STORE, None),
    ("POST", _STORE, {"name": "mine", "metadata": {}}),
    ("DELETE", _STORE, None),
    ("POST", f"{_STORE}/search", {"query": "secret"}),
    ("GET", f"{_STORE}/files", None),
    ("POST", f"{_STORE}/files", {"file_id": "{own_file}"}),
    ("POST", f"{_STORE}/files", {"file_id": "{file}"}),
    ("POST", "/vector_stores/{own_store}/files", {"file_id": "{file}"}),
    ("POST", "/vector_stores", {"file_ids": ["{file}"]}),
    *((method, path, None) for path in (_ITEM, _OWN_ITEM) for method in ("GET", "DELETE")),
    *(("POST", path, {"attributes": {"owner": "me"}}) for path in (_ITEM, _OWN_ITEM)),
    *(("GET", f"{path}/content", None) for path in (_ITEM, _OWN_ITEM)),
    ("POST", f"{_STORE}/file_batches", {"file_ids": ["{own_file}"]}),
    ("POST", "/vector_stores/{own_store}/file_batches", {"file_ids": ["{own_file}", "{file}"]}),
    ("POST", "/vector_stores/{own_store}/file_batches", {"files": [{"file_id": "{file}"}]}),
    *(
        (method, "/vector_stores/{" + store + "}/file_batches/{batch}" + rest, None)
        for store in ("store", "own_store")
        for method, rest in (("GET", ""), ("POST", "/cancel"), ("GET", "/files"))
    ),
    ("POST", "/chat/completions", {"model": "plain", "messages": _QUESTION, "tools": _TOOLS}),
    ("POST", "/chat/completions", {"model": "plain", "messages": _QUESTION, "tools": _BOTH, "stream": True}),
    ("POST", "/chat/completions", {"model": "plain", "messages": _QUESTION, "breakeven": {"knowledge": "{store}"}}),
    ("POST", "/responses", {"model": "plain", "input": "secret", "tools": _TOOLS}),
    ("POST", "/responses", {"model": "plain", "input": "secret", "tools": _BOTH, "stream": True}),
    ("POST", "/breakeven/knowledge/{store}/search", {"query": "secret"}),
]
FOR_USERS = ("/chat/completions", "/responses", f"{_STORE}/search", "/breakeven/knowledge/{store}/search")


def filled(value: Any, names: dict[str, str]) -> Any:
    match value:
        case str():
            return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], value)
        case dict():
            return {key: filled(each, names) for key, each in value.items()}
        case list():
            return [filled(each, names) for each in value]
        case _:
            return value
