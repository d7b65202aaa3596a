"""The scale-out overlay on this machine, with engines without a model, started once for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.manifests.machine import LIGHT
from tests.manifests.stack import Stack, running

# As in an operator's own overlay: fewer documents, so that gateways start sooner, and a served model with an adapter.
CONFIGURATION = {
    "knowledge": {"handbook": {"paths": ["/opt/breakeven/examples/handbook/people/annual-leave.md"]}},
    "models": {"tone": {"adapter": "tone"}},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Simulated engines, light gateways; all pods are ready."""
    with running(tmp_path_factory.mktemp("operator"), LIGHT, CONFIGURATION) as found:
        yield found
