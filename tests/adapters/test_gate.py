"""A limit that is missed, or that nobody measured, does not pass."""

from dataclasses import replace

import pytest

from adapters.gate import Limit, examine, table
from adapters.manifest import Manifest, Measurement
from tests.adapters.conftest import MakeAdapter, sign


@pytest.fixture
def manifest(make_adapter: MakeAdapter) -> Manifest:
    """format_gained is 0.5 of 4, forgetting 0.02."""
    lost = Measurement(name="forgetting", value=0.02, unit="share", n=50, low=0.0, high=0.04)
    return replace(sign(make_adapter()), measurements=(lost,))


@pytest.mark.parametrize(
    ("limit", "passed"),
    [
        (Limit("format_gained", "at least", 0.5), True),
        (Limit("format_gained", "at least", 0.51), False),
        (Limit("forgetting", "at most", 0.02), True),
        (Limit("forgetting", "at most", 0.019), False),
        (Limit("latency_s", "at most", 10.0), False),
        (Limit("accuracy", "at least", 0.0), False),
    ],
)
def test_a_limit(manifest: Manifest, limit: Limit, passed: bool) -> None:
    assert [each.passed for each in examine(manifest, [limit])] == [passed]


def test_the_table_shows_what_was_wanted_and_what_was_seen(manifest: Manifest) -> None:
    wanted = [
        Limit("format_gained", "at least", 0.9),
        Limit("latency_s", "at most", 1),
        Limit("forgetting", "at most", 1),
    ]
    lines = table(examine(manifest, wanted)).splitlines()
    assert [line.split()[0] for line in lines] == ["measured", "MISSED", "MISSED", "ok"]
    assert "at least 0.9" in lines[1] and "0.5" in lines[1] and "0.15 to 0.85" in lines[1]
    assert "never measured" in lines[2]
