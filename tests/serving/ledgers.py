"""Opens a ledger as often as a test likes, each time as another process would."""

from collections.abc import Callable

from serving.accounting.ledger.database import Database

Open = Callable[[], Database]
