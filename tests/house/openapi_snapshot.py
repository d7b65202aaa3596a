"""Writes the OpenAPI document of the gateway beside the tests: `python -m tests.house.openapi_snapshot`.

A committed snapshot shows every change of our API in review.
"""

import json

from serving.app import create_app
from tests.house.sources import ROOT

SNAPSHOT = ROOT / "tests" / "house" / "openapi.json"
COMMAND = "python -m tests.house.openapi_snapshot"


def snapshot() -> str:
    """The document as stable, readable JSON."""
    return json.dumps(create_app().openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
