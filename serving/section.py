"""What every section of the settings is: frozen, and it refuses keys that it does not know."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


def _host(name: str) -> str:
    try:
        name.encode("idna")
    except UnicodeError:
        raise ValueError("that is no host name: each part between dots has 1 to 63 characters") from None
    return name


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        name = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:  # a port or a bracket
        name = None
    if not name:
        raise ValueError("that is no URL such as http://engine:8000")
    _host(name)
    return url


Host = Annotated[str, AfterValidator(_host)]
Url = Annotated[str, AfterValidator(_url)]


class Section(BaseModel):
    """A frozen part of the tree that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
