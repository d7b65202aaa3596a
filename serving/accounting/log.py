"""One log line per request: what an operator wants to see scroll by."""

import logging

from serving.accounting.cost import Prices, money, request_cost
from serving.accounting.record import RequestRecord

logger = logging.getLogger("breakeven.requests")


class LogSink:
    """Writes records to the logger `breakeven.requests` at level INFO."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        if not logger.isEnabledFor(logging.INFO):
            return
        tokens = record.tokens
        milliseconds = (record.times.ended - record.times.received) * 1000
        cost = money(request_cost(record.share, self._prices.gpu).allocation_usd)
        logger.info(
            "%s %s %s %d %s%s  %.0f ms  prompt %d (cached %d, retrieved %d)  completion %d  $%s",
            record.id,
            record.tenant,
            record.model,
            record.status,
            record.outcome,
            f" ({record.error_code})" if record.error_code else "",
            milliseconds,
            tokens.prompt,
            tokens.cached,
            tokens.retrieved,
            tokens.completion,
            cost,
        )
