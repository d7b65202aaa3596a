"""How a file of a vector store is named inside the knowledge base, and back.

An attached file is the document `file-<id>/<filename>`: two files of one name do not replace each other, and a passage
tells its file without a look-up. A document that was ingested by other means has no file; its id is made of its source.
"""

import hashlib
import re

_ATTACHED = re.compile(r"(file-[0-9a-f]{24})/(.+)", re.DOTALL)
INGESTED = "file-doc-"


def source_of(file_id: str, filename: str) -> str:
    """The document's source for an attached file."""
    return f"{file_id}/{filename}"


def file_of(source: str) -> tuple[str, str]:
    """(file id, filename) of a document."""
    attached = _ATTACHED.fullmatch(source)
    if attached is not None:
        return attached[1], attached[2]
    return INGESTED + hashlib.sha256(source.encode()).hexdigest()[:20], source
