"""What others ask the ledger. Everything here may block: call it in a thread."""

from collections.abc import Mapping
from decimal import Decimal

from serving.accounting.ledger.database import Database


def spent(ledger: Database, since: float) -> Mapping[tuple[str, str], Decimal]:
    """US dollars on the allocation basis by (tenant, key id), of requests that ended at `since` (seconds since 1970)
    or later, at every gateway that writes into this ledger. Up to a second late. Raises LedgerError."""
    query = (
        "SELECT tenant, key_id, SUM(CAST(allocation_usd AS NUMERIC)) FROM requests "
        "WHERE ended_at >= ? GROUP BY tenant, key_id"
    )
    return {(tenant, key): Decimal(str(usd)) for tenant, key, usd in ledger.rows(query, (since,))}
