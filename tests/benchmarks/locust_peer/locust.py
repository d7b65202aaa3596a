"""What benchmarks/locustfile.py takes from Locust, which is not installed here: enough to import and to drive it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class FastHttpUser:
    environment: Any
    client: Any


class _Hook:
    def add_listener(self, listener: Callable[..., None]) -> Callable[..., None]:
        return listener


events = SimpleNamespace(init_command_line_parser=_Hook())


def constant(seconds: float) -> Callable[[Any], float]:
    return lambda _: seconds


def task(function: Callable[..., None]) -> Callable[..., None]:
    return function
