"""Locust users that stream chat completions, for those who test everything else with Locust too.

    pip install locust
    LOCUST_MODEL=support locust -f benchmarks/locustfile.py --host http://127.0.0.1:8000 -u 8 -r 8 -t 60s --headless

Locust is not installed with this project, and nothing of the project is imported here: the file runs wherever Locust
does. Beside the request itself (`POST /v1/chat/completions`, to its last byte) each answer reports `time to first
token` and `inter-token latency`, the mean of the answer, as events of their own, which Locust's tables, charts, CSV and
exit conditions then treat like any request. Locust is a closed loop: for an open one use `breakeven bench --rate`.
"""

import argparse
import json
import random
import time
from typing import Any

from locust import FastHttpUser, constant, events, task

CHAT = "/v1/chat/completions"
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state")


@events.init_command_line_parser.add_listener
def options(parser: argparse.ArgumentParser) -> None:
    """Options of Locust's command line; each is an environment variable too."""
    add: Any = parser.add_argument  # Locust's own parser takes env_var
    add("--model", env_var="LOCUST_MODEL", default="", help="Served model; default: the first that is listed.")
    add("--api-key", env_var="LOCUST_API_KEY", default="", help="API key, if the server wants one.", is_secret=True)
    add("--questions", env_var="LOCUST_QUESTIONS", default="", help="JSONL with a `question` a line.")
    add("--prompt-tokens", type=int, env_var="LOCUST_PROMPT_TOKENS", default=256, help="About so long otherwise.")
    add("--max-tokens", type=int, env_var="LOCUST_MAX_TOKENS", default=128, help="Tokens to generate at most.")


class ChatUser(FastHttpUser):
    """Asks, reads the stream to its end, and asks again at once."""

    wait_time = constant(0)
    network_timeout = connection_timeout = 120.0

    def on_start(self) -> None:
        """Once per user: who is asked, and what."""
        given = self.environment.parsed_options
        self.headers = {"Authorization": f"Bearer {given.api_key}"} if given.api_key else {}
        self.model = given.model
        if not self.model:
            listing = self.client.get("/v1/models", headers=self.headers).json()
            self.model = listing["data"][0]["id"]
        self.questions: list[str] = []
        if given.questions:
            with open(given.questions, encoding="utf-8") as lines:  # noqa: PTH123  # nothing else here needs pathlib
                self.questions = [json.loads(line)["question"] for line in lines if line.strip()]
        self.random = random.Random(id(self))  # noqa: S311  # prompts, no secrets

    @task
    def chat(self) -> None:
        """One streamed completion. A stream without [DONE], or with an error event, has failed."""
        given = self.environment.parsed_options
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": self._question(given.prompt_tokens)}],
            "max_tokens": given.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began = time.perf_counter()
        asked = self.client.post(CHAT, json=body, headers=self.headers, stream=True, catch_response=True)
        with asked as response:
            if response.status_code != 200:
                response.failure(f"HTTP {response.status_code}: {response.text[:200]}")
                return
            seen = _Stream(began)
            for line in iter(lambda: response.stream.readline(b"\n"), b""):
                seen.read(line)
            # Of a stream Locust would count the time to its head only.
            response.request_meta["response_time"] = 1000 * (time.perf_counter() - began)
            if seen.error:
                response.failure(seen.error)
                return
            response.success()
        self._report("time to first token", seen.ttft_ms, seen.tokens)
        self._report("inter-token latency", seen.itl_ms, seen.tokens)

    def _question(self, tokens: int) -> str:
        if self.questions:
            return self.random.choice(self.questions)
        return " ".join(self.random.choices(WORDS, k=tokens))

    def _report(self, name: str, milliseconds: float | None, tokens: int) -> None:
        if milliseconds is not None:  # an abstention has no token to time
            self.environment.events.request.fire(
                request_type="LLM", name=name, response_time=milliseconds, response_length=tokens, exception=None
            )


class _Stream:
    """What one stream of events said, and when."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._first: float | None = None
        self._last: float | None = None
        self._done = False
        self._failed = ""
        self.tokens = 0

    def read(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self._done = True
            return
        event = json.loads(data)
        if event.get("error"):
            self._failed = f"error event: {event['error']}"
        if event.get("usage"):
            self.tokens = event["usage"]["completion_tokens"]
        if any((choice.get("delta") or {}).get("content") for choice in event.get("choices") or ()):
            self._last = time.perf_counter()
            self._first = self._first or self._last

    @property
    def error(self) -> str:
        return self._failed or ("" if self._done else "the stream ended without data: [DONE]")

    @property
    def ttft_ms(self) -> float | None:
        return None if self._first is None else 1000 * (self._first - self._began)

    @property
    def itl_ms(self) -> float | None:
        if self._first is None or self._last is None or self.tokens < 2:
            return None
        return 1000 * (self._last - self._first) / (self.tokens - 1)
