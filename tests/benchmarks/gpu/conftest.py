"""The fake server of the load tests."""

from tests.benchmarks.load.conftest import server

__all__ = ["server"]
