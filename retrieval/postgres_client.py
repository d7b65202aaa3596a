"""PostgreSQL as every part of Breakeven uses it, documents and the gateway's own records alike.

psycopg is tens of MiB that a gateway without PostgreSQL does without: it is imported when the first connection is made.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

SETTING = "database_url"
# A transaction is begun where one is wanted. A server that is gone without a word is noticed within seconds, and not
# only when TCP gives up.
OPTIONS: Mapping[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_URL = re.compile(r'"?postgres(ql)?://.*')
_RECONNECT_S = 1.0  # then the next who needs one tries again at once, instead of after longer and longer pauses


def open_pool(url: str, session: str, most: int, wait_s: float, **options: Any) -> "ConnectionPool[Any]":
    """At most so many connections, each begun with the statements `session`; `wait_s` is how long one is waited for.

    `options` are psycopg's, over OPTIONS. Nothing is raised if nothing answers at `url`: who takes a connection waits.
    """
    from psycopg_pool import ConnectionPool

    pool: ConnectionPool[Any] = ConnectionPool(
        url,
        min_size=1,
        max_size=most,
        kwargs={**OPTIONS, **options},
        configure=lambda connection: (connection.execute(session), None)[1],
        # What the database closed when it was restarted must not be handed to a request.
        check=ConnectionPool.check_connection,
        timeout=wait_s,
        reconnect_timeout=_RECONNECT_S,
        open=False,
    )
    pool.open()
    return pool


def server_name(url: str) -> str:
    """For messages: host and port, and never the password; without them where the URL cannot be read."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:
        return "PostgreSQL"
    return f"PostgreSQL at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"


def first_line(error: Exception) -> str:
    """What PostgreSQL says is wrong, without where in the statement, and without the URL: one that cannot be read it
    shows whole, with the password."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _URL.sub("the URL", line)


def is_text(value: str) -> bool:
    """Whether it can be kept: no NUL, and no half of a pair."""
    return "\0" not in value and (value.isascii() or value.encode("utf-8", "replace").decode() == value)
