"""The locustfile, driven by a peer of Locust's: what a user reports of a whole stream, and of broken ones."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PEER = Path(__file__).parent / "locust_peer"
ROOT = Path(__file__).parents[2]
DRIVE = """
import io, json, sys
from types import SimpleNamespace
from benchmarks.locustfile import ChatUser, options

reported = []

class Stream(io.BytesIO):
    def readline(self, separator):
        return super().readline()

class Response:
    status_code, text = json.loads(sys.argv[2]), "no"
    def __init__(self):
        self.stream, self.request_meta = Stream(sys.argv[1].encode()), {}
    def __enter__(self):
        return self
    def __exit__(self, *error):
        pass
    def success(self):
        reported.append(["success", self.request_meta["response_time"] >= 0])
    def failure(self, why):
        reported.append(["failure", why])

class Parser:
    def add_argument(self, *names, **given):
        pass

options(Parser())
user = ChatUser()
fire = lambda **event: reported.append([event["name"], event["response_time"] >= 0])
given = SimpleNamespace(api_key="", model="m", questions="", prompt_tokens=5, max_tokens=3)
user.environment = SimpleNamespace(parsed_options=given, events=SimpleNamespace(request=SimpleNamespace(fire=fire)))
user.client = SimpleNamespace(post=lambda *a, **k: Response())
user.on_start()
user.chat()
print(json.dumps(reported))
"""


def chunk(**event: Any) -> str:
    return f"data: {json.dumps(event)}\n\n"


TOKENS = "".join(chunk(choices=[{"delta": {"content": text}}]) for text in ("a", "b", "c"))
USAGE = chunk(choices=[], usage={"completion_tokens": 3})
DONE = "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("stream", "status", "expected"),
    [
        (
            TOKENS + USAGE + DONE,
            200,
            [["success", True], ["time to first token", True], ["inter-token latency", True]],
        ),
        (USAGE + DONE, 200, [["success", True]]),
        (TOKENS, 200, [["failure", "the stream ended without data: [DONE]"]]),
        (TOKENS + chunk(error={"message": "lost"}), 200, [["failure", "error event: {'message': 'lost'}"]]),
        ("", 429, [["failure", "HTTP 429: no"]]),
    ],
)
def test_a_user_reports_what_a_stream_was(stream: str, status: int, expected: list[object]) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{PEER}"}
    command = [sys.executable, "-c", DRIVE, stream, json.dumps(status)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
