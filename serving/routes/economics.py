"""What the traffic costs and where it would break even, for operators: the gateway's own figures, of all tenants."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serving.accounting.ledger.database import LedgerError
from serving.errors import BadRequest, EngineUnavailable, NotFound
from serving.routes.edge import gateway_of, json_response, operator_of

router = APIRouter(prefix="/v1/breakeven", tags=["Breakeven"])

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW = re.compile(r"(\d{1,9})([smhd]?)")
_LONGEST_S = 366 * 86_400
_SHORTEST_S = 60


@router.get("/economics")
async def economics(
    request: Request,
    window: Annotated[
        str | None, Query(description="The latest traffic to look at, such as 15m, 24h or 7d; default: cost.window_s.")
    ] = None,
) -> Response:
    """Measured cost per query and effective utilisation, the bill and the parts that add up to it, and the volume from
    which self-hosting beats each hosted model: every number says whether it is measured, modelled, assumed or quoted.
    Before the window holds enough traffic, `status` is `not yet measured` and `missing` says what is needed."""
    gateway = gateway_of(request)
    operator_of(request)
    if gateway.economics is None:
        raise NotFound("this gateway was started without an economic model: start it by `breakeven serve`")
    window_s = gateway.settings.cost.window_s if window is None else _seconds(window)
    try:
        return json_response(await gateway.economics.document(window_s))
    except LedgerError as error:
        raise EngineUnavailable(f"{error}", retry_after_s=5, code="ledger_unavailable") from error


def _seconds(text: str) -> float:
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise BadRequest("`window` is a number of s, m, h or d, such as 24h; from 60s to 366d", param="window")
    return float(seconds)
