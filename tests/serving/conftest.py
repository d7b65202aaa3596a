"""What tests of the ledger share: the two databases it may be in."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from serving.accounting.ledger.opening import open_database
from tests.serving.ledgers import Open


@pytest.fixture
def open_ledger(database_url: str | None, tmp_path: Path) -> Iterator[Open]:
    """Opens the test's ledger as often as a test likes, each time as another process would."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_database(tmp_path, database_url)))
