"""A purse in PostgreSQL, for several gateways.

A decision holds the accounts' advisory locks for one transaction, so that gateways decide one after another, as
requests do in one process. A hold is a row that expires: those of a killed gateway are gone when its requests would
have ended. Windows are those of the database's clock, which is the same for all.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from retrieval.postgres_client import OPTIONS, SETTING, first_line
from serving.budgets.purse import Balance, Limit, Quanta, Refused, Standing, decide
from serving.budgets.windows import KINDS, Kind, Window, window
from serving.errors import StoreUnavailable

logger = logging.getLogger("breakeven.budgets")

_LOCK = 7_239_817_125_331_003  # of the tables' making; the ledger's has the number before it
_SESSION = "SET search_path TO breakeven_budgets; SET statement_timeout TO '10s'; SET jit TO off"
_WAIT_S = 5.0
_AGAIN_S = 1.0
_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS breakeven_budgets;
CREATE TABLE IF NOT EXISTS breakeven_budgets.spending (
    account TEXT NOT NULL, kind TEXT NOT NULL, since TIMESTAMP NOT NULL, spent NUMERIC NOT NULL,
    PRIMARY KEY (account, kind, since)
);
CREATE TABLE IF NOT EXISTS breakeven_budgets.holds (
    request_id TEXT NOT NULL, account TEXT NOT NULL, amount NUMERIC NOT NULL, expires TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (request_id, account)
);
CREATE INDEX IF NOT EXISTS holds_account ON breakeven_budgets.holds (account);
"""
_NOW = "date_trunc(kind, now() AT TIME ZONE 'UTC')"
_BEGIN = (
    "INSERT INTO spending SELECT account, kind, to_timestamp(since) AT TIME ZONE 'UTC', spent "
    "FROM unnest(%s::text[], %s::text[], %s::float8[], %s::numeric[]) AS given (account, kind, since, spent) "
    "ON CONFLICT DO NOTHING"
)
# Holds before costs: what is settled between the two statements is counted twice, never not at all.
_HELD = "SELECT account, COUNT(*), SUM(amount) FROM holds WHERE account = ANY(%s) AND expires > now() GROUP BY account"
_SPENT = f"SELECT account, kind, spent FROM spending WHERE account = ANY(%s) AND since = {_NOW}"  # noqa: S608  # names of ours
_HOLD = "INSERT INTO holds SELECT %s, account, %s, now() + make_interval(secs => %s) FROM unnest(%s::text[]) AS account"
_SETTLE = (
    "INSERT INTO spending "  # noqa: S608  # names of ours
    f"SELECT account, kind, {_NOW}, %s FROM unnest(%s::text[]) AS account, unnest(%s::text[]) AS kind "
    "ORDER BY account, kind "
    "ON CONFLICT (account, kind, since) DO UPDATE SET spent = spending.spent + excluded.spent"
)
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class SharedPurse:
    """Opened by `shared_purse`. `longest_s` is how long a request can last, from its hold to its end."""

    def __init__(self, pool: "AsyncConnectionPool[Connection]", longest_s: float) -> None:
        self._pool, self._longest_s = pool, longest_s
        self._known: dict[str, Standing] = {}
        self._windows: dict[Kind, Window] = {kind: window(kind, 0.0) for kind in KINDS}
        self._ended: list[tuple[str, Sequence[str], Quanta]] = []
        self._woken, self._writing = asyncio.Event(), asyncio.Lock()

    @property
    def windows(self) -> Mapping[Kind, Window]:
        """Those of the database's clock, when it was last asked."""
        return self._windows

    async def begin(self, spent: Mapping[tuple[str, Kind], Quanta]) -> None:
        """What the ledger says was spent in the present windows, for accounts that are not known here yet."""
        rows = [(account, kind, self._windows[kind].since, amount) for (account, kind), amount in spent.items()]
        async with self._connected() as connection:
            await connection.execute(_BEGIN, [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []])

    async def hold(self, request_id: str, limits: Sequence[Limit], amount: Quanta) -> Refused | None:
        """See Purse. Raises StoreUnavailable."""
        names = sorted({limit.account for limit in limits})
        async with self._connected() as connection, connection.transaction():
            for name in names:  # in order, so that no two wait for each other
                await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", (name, _LOCK))
            now = await self._read(connection, names)
            if (refused := decide(limits, self._known, amount, self._windows, now)) is not None:
                return refused
            await connection.execute(_HOLD, (request_id, amount, self._longest_s, names))
        return None

    def settle(self, request_id: str, accounts: Sequence[str], cost: Quanta) -> None:
        """See Purse. Until it is written the request is held for."""
        self._ended.append((request_id, accounts, cost))
        self._woken.set()

    def balance(self, account: str, kind: Kind) -> Balance:
        """See Purse."""
        known = self._known.get(account) or Standing()
        return Balance(self._windows[kind], known.spent[kind], known.held)

    async def refresh(self, accounts: Sequence[str]) -> None:
        """See Purse. Raises StoreUnavailable."""
        async with self._connected() as connection:
            await self._read(connection, accounts)

    async def keep_settling(self) -> None:
        """Write what has ended, for ever; what cannot be written waits."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                # To its end, whoever ends us: what is cut off while it is committed may be kept, and then it would be
                # written twice.
                await asyncio.shield(self.write())
            except StoreUnavailable as error:
                logger.error("budgets: %d costs wait to be written: %s", len(self._ended), error)
                await asyncio.sleep(_AGAIN_S)
                self._woken.set()

    async def write(self) -> None:
        """Write what has ended until now. Raises StoreUnavailable, and then it is all still there."""
        async with self._writing:
            ended = tuple(self._ended)
            costs: dict[str, Quanta] = {}
            for _, accounts, cost in ended:
                for account in accounts:
                    costs[account] = costs.get(account, 0) + cost
            async with self._connected() as connection, connection.transaction():
                await connection.execute("DELETE FROM holds WHERE request_id = ANY(%s)", ([each[0] for each in ended],))
                for account in sorted(costs):
                    if costs[account]:
                        await connection.execute(_SETTLE, (costs[account], [account], list(KINDS)))
            del self._ended[: len(ended)]

    async def _read(self, connection: Connection, names: Sequence[str]) -> float:
        found = {name: Standing() for name in names}
        for account, running, held in await (await connection.execute(_HELD, (list(names),))).fetchall():
            found[account].running, found[account].held = running, int(held)
        for account, kind, spent in await (await connection.execute(_SPENT, (list(names),))).fetchall():
            found[account].spent[kind] = int(spent)
        self._known.update(found)
        rows = await (await connection.execute("SELECT extract(epoch FROM now())::float8")).fetchall()
        now = float(rows[0][0])
        self._windows = {kind: window(kind, now) for kind in KINDS}
        return now

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.Error, PoolTimeout) as error:
            raise StoreUnavailable(
                f"budgets cannot be looked up in PostgreSQL ({SETTING}): {first_line(error)}; try again shortly",
                code="budgets_unavailable",
                retry_after_s=_AGAIN_S,
            ) from error


async def _configure(connection: Connection) -> None:
    await connection.execute(_SESSION)


@asynccontextmanager
async def shared_purse(url: str, longest_s: float) -> AsyncIterator[SharedPurse]:
    """Makes its tables, in the schema `breakeven_budgets`, if they are not there. Raises StoreUnavailable."""
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=8,
        timeout=_WAIT_S,
        open=False,
        kwargs=dict(OPTIONS),
        configure=_configure,
        # What the database closed when it was restarted must not be handed to a request.
        check=AsyncConnectionPool.check_connection,
    )
    purse = SharedPurse(pool, longest_s)
    try:
        async with await psycopg.AsyncConnection.connect(url, **OPTIONS) as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            await connection.execute(_SCHEMA)
        await pool.open()
        await purse.refresh(())
        settling = asyncio.create_task(purse.keep_settling())
        try:
            yield purse
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
            await purse.write()
    except psycopg.Error as error:
        raise StoreUnavailable(f"budgets need PostgreSQL ({SETTING}): {first_line(error)}") from error
    finally:
        await pool.close()
