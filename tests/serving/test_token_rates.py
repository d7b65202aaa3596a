"""Tokens per minute: held before, settled after, whatever becomes of the request; told as OpenAI tells it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest

from serving.accounting.record import Tokens
from serving.auth import EVERYONE, LOCAL_TENANT, Caller
from serving.rates.buckets import LocalBuckets
from serving.rates.rates import RateLimited, Rates, RequestTooLarge
from serving.rates.tokens import Habits, need_of
from serving.sharing import RateLimits
from tests.servers import Cluster
from tests.serving.gateways import Running, running, settings_for
from tests.serving.test_rates import Clock, bearer, opened

LIMIT = 6_000
MESSAGES = [{"role": "user", "content": "one two three four"}]
ASK: dict[str, Any] = {"model": "plain", "messages": MESSAGES, "max_tokens": 10}
HELD = -(-len(orjson.dumps(ASK)) // 4) + 10


def caller(tokens: int, requests: int | None = None) -> Caller:
    rates = RateLimits(tokens_per_minute=tokens, requests_per_minute=requests)
    return Caller("acme", frozenset({EVERYONE}), "user", "k1", None, rates)


@dataclass
class Limited:
    """A gateway, and a key of it that may use LIMIT tokens per minute."""

    stack: Running
    http: httpx.AsyncClient
    key: str

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(f"/v1/{path}", json=body, headers=bearer(self.key))

    async def missing(self) -> float:
        """Tokens that the key's bucket lacks of being full."""
        buckets = self.stack.gateway.runtime.rates._buckets
        return (await buckets.take(f"tokens:{self.key.split('-')[1]}", LIMIT, 0)).full_s * LIMIT / 60

    async def takes(
        self, path: str, body: dict[str, Any], tokens: int | None = None, status: int = 200
    ) -> httpx.Response:
        """The request takes so many tokens of the bucket in the end (None: as many as it says), less what fills up in
        the meantime."""
        before, began = await self.missing(), time.monotonic()
        answer = await self.post(path, body)
        assert answer.status_code == status, answer.text
        tokens = answer.json()["usage"]["total_tokens"] if tokens is None else tokens
        found, refilled = await self.missing(), (time.monotonic() - began) * LIMIT / 60 + 1
        assert max(0.0, before + tokens - refilled) <= found <= before + tokens + 1, (path, body, found, before)
        return answer


@asynccontextmanager
async def limited(home: Path, **engine: Any) -> AsyncIterator[Limited]:
    settings = settings_for(home, engine=engine)
    async with running(settings) as stack, httpx.AsyncClient(base_url=stack.url, timeout=30) as http:
        rates = RateLimits(tokens_per_minute=LIMIT)
        yield Limited(stack, http, stack.gateway.keys.create(LOCAL_TENANT, [EVERYONE], "user", rates=rates))


def test_what_a_request_says_that_it_needs() -> None:
    body = len(orjson.dumps(ASK))
    assert need_of(ASK, 1).stated == HELD == -(-body // 4) + 10
    assert need_of(ASK, 3).stated == HELD + 20
    assert need_of({**ASK, "max_completion_tokens": 7}, 1).most == 7  # the newer name wins
    assert need_of({"input": "x", "max_output_tokens": 9}, 1).most == 9
    odd: Any
    for odd in (None, True, "9", -1, 0, 1.5, [9], {}):
        assert need_of({**ASK, "max_tokens": odd}, 1).most is None
    assert need_of({**ASK, "max_tokens": 2**63}, 2).stated > 2**64


def test_what_is_held_follows_what_a_model_does() -> None:
    habits, need = Habits(), need_of({"model": "books", "messages": MESSAGES}, 1)
    first = habits.amount(need)
    assert need.prompt < first <= 1_000
    habits.learn(need, Tokens(prompt=need.prompt + 900, completion=40))  # passages
    assert habits.amount(need) == need.prompt + 940
    assert habits.amount(need_of({**ASK, "model": "books"}, 2)) == HELD + 900 + 10
    assert habits.amount(need_of({"model": "other", "messages": MESSAGES}, 1)) == first
    for _ in range(300):
        habits.learn(need, Tokens(prompt=need.prompt - 3, completion=8))
    assert habits.amount(need) < need.prompt + 60


async def test_a_request_that_needs_more_than_the_limit_is_told_so_at_once() -> None:
    rates = Rates(LocalBuckets(Clock()))
    with pytest.raises(RequestTooLarge) as refused:
        await rates.take(caller(HELD - 1, requests=1), ASK, 1)
    error, headers = refused.value.body()["error"], refused.value.headers()
    assert (refused.value.status, error["type"], error["code"]) == (413, "tokens", "rate_limit_exceeded")
    assert f"tokens per min (TPM): Limit {HELD - 1}, Requested {HELD}. " in error["message"]
    assert "retry-after" not in headers
    assert rates.refused["tokens"] == 1
    # It was no request; and one that needs exactly the limit is served.
    admitted = await rates.take(caller(HELD, requests=1), ASK, 1)
    assert admitted.headers["x-ratelimit-remaining-tokens"] == admitted.headers["x-ratelimit-remaining-requests"] == "0"


async def test_without_a_limit_of_its_own_a_request_never_needs_more_than_there_can_be() -> None:
    rates = Rates(LocalBuckets(Clock()))
    admitted = await rates.take(caller(40), {"model": "plain", "messages": MESSAGES}, 8)
    assert admitted.headers["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize("where", ["in memory", "postgresql"])
async def test_what_headers_and_error_say(where: str, request: pytest.FixtureRequest) -> None:
    async with AsyncExitStack() as stack:
        both = [Rates(LocalBuckets(Clock()))] * 2
        if where == "postgresql":
            cluster: Cluster = request.getfixturevalue("postgres")
            cluster.empty()
            both = [opened(stack, cluster) for _ in range(2)]
        limit = 3 * HELD - 1
        headers = (await both[0].take(caller(limit, requests=9), ASK, 1)).headers
        assert headers["x-ratelimit-limit-tokens"] == str(limit)
        assert headers["x-ratelimit-remaining-tokens"] == str(2 * HELD - 1)
        assert headers["x-ratelimit-remaining-requests"] == "8"
        assert headers["x-ratelimit-reset-tokens"].startswith(("20.", "19."))
        await both[1].take(caller(limit), ASK, 1)
        with pytest.raises(RateLimited) as refused:
            await both[0].take(caller(limit, requests=9), ASK, 1)
    told, error = refused.value.headers(), refused.value.body()["error"]
    assert (refused.value.status, error["type"], error["code"]) == (429, "tokens", "rate_limit_exceeded")
    said = re.search(r"\(TPM\): Limit (\d+), Used (\d+), Requested (\d+) \((\d+) left\)", error["message"])
    assert said is not None
    stated, used, requested, left = map(int, said.groups())
    assert (stated, requested, used + left) == (limit, HELD, limit)
    assert 2 * HELD - 1 <= used <= 2 * HELD  # one may have come back in the meantime
    assert "Please try again in " in error["message"]
    assert (told["x-ratelimit-remaining-tokens"], told["x-ratelimit-limit-requests"]) == (str(left), "9")
    assert told["retry-after"] == "1"
    assert 0 < int(told["retry-after-ms"]) <= 60_000 / limit + 1


async def test_every_kind_of_request_takes_what_it_used(tmp_path: Path) -> None:
    async with limited(tmp_path) as key:
        chat, embedder = "chat/completions", key.stack.gateway.knowledge.embedding_model
        await key.takes(chat, ASK, 4 + 10)
        await key.takes(chat, {**ASK, "stream": True}, 4 + 10)
        await key.takes(chat, {**ASK, "n": 3, "stream": True}, 4 + 30)
        await key.takes(chat, {"model": "polite", "messages": MESSAGES}, 6 + 5)  # its system prompt and default
        await key.takes(chat, {"model": "plain", "messages": MESSAGES}, 4 + 16)
        await key.takes("completions", {"model": "plain", "prompt": "a b c", "max_tokens": 8}, 3 + 8)
        await key.takes("responses", {"model": "plain", "input": "a b c", "max_output_tokens": 8}, 3 + 8)
        await key.takes("responses", {"model": "plain", "input": "a b c", "stream": True}, 3 + 16)
        await key.takes("embeddings", {"model": embedder, "input": ["a b c", "d"]}, 4)
        answer = await key.takes(chat, {**ASK, "model": "books", "messages": asking("rain gauge water")})
        assert answer.json()["usage"]["prompt_tokens"] > 20  # with the passage


async def test_what_is_not_answered_takes_nothing(tmp_path: Path) -> None:
    async with limited(tmp_path, max_model_len=128) as key:
        chat = "chat/completions"
        await key.takes(chat, {**ASK, "model": "nobody"}, 0, 404)
        await key.takes(chat, {**ASK, "messages": asking("word " * 200)}, 0, 400)
        await key.takes(chat, {**ASK, "max_tokens": LIMIT}, 0, 413)
        await key.takes(chat, {**ASK, "model": "books", "messages": asking("zzz")}, 0)  # abstained
        await key.takes("embeddings", {"model": "nobody", "input": "a b c"}, 0, 404)
        await key.stack.gateway.engine.stop()
        for stream in (False, True):
            await key.takes(chat, {**ASK, "stream": stream}, 0, 503)


@pytest.mark.parametrize("stream", [False, True])
async def test_of_what_breaks_off_a_stream_takes_what_came_and_a_whole_answer_all_that_was_held(
    tmp_path: Path, stream: bool
) -> None:
    async with limited(tmp_path, simulated_itl_s=0.02, simulated_tokens=500) as key:
        body = {**ASK, "stream": stream, "max_tokens": 5_000}
        sending = key.http.stream("POST", "/v1/chat/completions", json=body, headers=bearer(key.key))
        with suppress(httpx.ReadTimeout, TimeoutError):
            async with asyncio.timeout(0.3), sending as answer:
                async for _ in answer.aiter_raw():
                    assert await key.missing() > 4_500
        began, door = time.monotonic(), key.stack.gateway.runtime.door
        while door.inside or (stream and await key.missing() > 100):  # until it is settled
            assert time.monotonic() < began + 5
            await asyncio.sleep(0.01)
        assert await key.missing() > (5 if stream else 4_400)


async def test_of_many_at_once_as_many_are_answered_as_could_all_use_their_limit(tmp_path: Path) -> None:
    async with limited(tmp_path, simulated_itl_s=0.1) as key:
        body = {**ASK, "max_tokens": 1_150}
        answers = await asyncio.gather(*(key.post("chat/completions", body) for _ in range(20)))
        assert sorted(each.status_code for each in answers) == [200] * 5 + [429] * 15
        told = next(each for each in answers if each.status_code == 429)
        assert told.json()["error"]["type"] == "tokens"
        assert 1 <= int(told.headers["retry-after"]) <= 12
        assert await key.missing() <= 5 * (4 + 16)  # what they used: the next five find room


async def test_what_openais_client_makes_of_it(tmp_path: Path) -> None:
    async with limited(tmp_path) as key:
        gateway, limit = key.stack.gateway, 60_000
        roomy = gateway.keys.create("acme", [EVERYONE], "user", rates=RateLimits(tokens_per_minute=limit))
        account = f"tokens:{roomy.split('-')[1]}"
        await gateway.runtime.rates._buckets.take(account, limit, limit)
        url = f"{key.stack.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=roomy, max_retries=0) as hasty:
            with pytest.raises(openai.RateLimitError) as refused:
                await hasty.chat.completions.create(**{**ASK, "max_tokens": 600})
            assert (refused.value.type, refused.value.code) == ("tokens", "rate_limit_exceeded")
            patient = hasty.with_options(max_retries=3)  # who waits as long as he is told
            raw = await patient.chat.completions.with_raw_response.create(**{**ASK, "max_tokens": 600})
            assert raw.headers["x-ratelimit-limit-tokens"] == str(limit)
            with pytest.raises(openai.APIStatusError, match="Request too large") as large:
                await patient.chat.completions.create(**{**ASK, "max_tokens": limit})
            assert (large.value.status_code, large.value.code) == (413, "rate_limit_exceeded")
        counted = re.search(rb'breakeven_rate_refused_total{limit="tokens"} (\d+)', gateway.metrics.exposition())
        assert counted is not None
        assert int(counted[1]) <= 4  # what can never be is asked once


async def test_an_operator_sets_it(tmp_path: Path) -> None:
    async with limited(tmp_path) as key:
        operator = bearer(key.stack.gateway.keys.create(LOCAL_TENANT, [EVERYONE], "operator"))
        path = f"/v1/breakeven/keys/{key.key.split('-')[1]}"
        for wrong in (0, -1, 1.5, "5", True, 10**9, [5]):
            told = await key.http.patch(path, json={"tokens_per_minute": wrong}, headers=operator)
            assert (told.status_code, told.json()["error"]["param"]) == (400, "tokens_per_minute")
        for given, expected in (
            ({"requests_per_minute": 5}, (5, LIMIT)),
            ({"tokens_per_minute": 70}, (5, 70)),
            ({"tokens_per_minute": None, "requests_per_minute": None}, (None, None)),
        ):
            shown = (await key.http.patch(path, json=given, headers=operator)).json()
            assert (shown["requests_per_minute"], shown["tokens_per_minute"]) == expected
        answer = await key.post("chat/completions", ASK)
        assert (answer.status_code, [name for name in answer.headers if "ratelimit" in name]) == (200, [])


def asking(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
