"""A simulated engine: vLLM's answers in form and timing, with no model behind them.

It lets the gateway, the tests and the benchmarks run in seconds. Tokens and times come from the settings alone, the
text repeats the question's words, and every id says `simulated`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from serving.engine import simulated_responses
from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused, EngineResponse, LoraModule, Progress
from serving.engine.seconds import EngineSeconds
from serving.engine.simulated_choice import choose, logprobs
from serving.engine.simulated_loras import SimulatedLoras
from serving.errors import EngineUnavailable, UpstreamFailed
from serving.sections import Engine as EngineSettings

SIMULATED_MODEL = "simulated"
RESPONSES_PATH = "/v1/responses"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    source: AsyncIterator[bytes]

    def chunks(self) -> AsyncIterator[bytes]:
        return self.source

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.source])


class SimulatedEngine:
    """Deterministic: equal requests get equal answers, apart from `created`."""

    simulated = True
    scores_text = True

    def __init__(
        self,
        settings: EngineSettings,
        base_model: str = SIMULATED_MODEL,
        max_model_len: int = 8192,
        loras: Loras | None = None,
    ) -> None:
        self._settings = settings
        self._loras = loras or Loras()
        self.slots = SimulatedLoras(settings.max_loras, settings.max_lora_rank)
        self.restarts = 0
        self._max_model_len = settings.max_model_len or max_model_len
        self.base_model = base_model
        self.ready = False
        self.running = 0
        self._measured = EngineSeconds()

    async def start(self, progress: Progress) -> None:
        """Ready at once."""
        progress("simulated engine: no model is behind it")
        for lora in self._loras.wanted.values():
            with suppress(AdapterRefused):
                self._load(lora)
        self.ready = True

    async def stop(self) -> None:
        """Nothing to end."""
        self.ready = False

    async def crash(self, seconds: float) -> None:
        """Break off every running answer, be away for a while, come back with the adapters it should have."""
        self.ready = False
        self.restarts += 1
        self._measured = EngineSeconds()
        self.slots.clear()
        await asyncio.sleep(seconds)
        await self.start(lambda _: None)

    async def measured(self) -> EngineSeconds | None:
        """See Engine.measured: the times of the settings."""
        return self._measured if self.ready and self._measured.requests else None

    async def load_adapter(self, lora: LoraModule) -> None:
        """See Engine.load_adapter."""
        if not self.ready:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=5)
        if lora.name not in self.slots.loaded:
            self._load(lora)
        self._loras.wanted[lora.name] = lora

    async def unload_adapter(self, name: str) -> None:
        """See Engine.unload_adapter."""
        self._loras.wanted.pop(name, None)
        self._loras.refused.pop(name, None)
        self.slots.loaded.discard(name)

    def refusal(self, name: str) -> str | None:
        """See Engine.refusal."""
        return self._loras.refusal(name)

    def lacking(self, name: str) -> Mapping[str, str]:
        """See Engine.lacking."""
        del name
        return {}

    def _load(self, lora: LoraModule) -> None:
        try:
            self.slots.load(lora)
        except AdapterRefused as error:
            self._loras.refused[lora.name] = str(error)
            raise
        self._loras.refused.pop(lora.name, None)

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[EngineResponse]:
        """See Engine.post."""
        if not self.ready:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=5)
        request = orjson.loads(body)
        if path == RESPONSES_PATH:
            request = {"max_tokens": request.get("max_output_tokens"), **request}
        model = request.get("model")
        if model != self.base_model and model not in self.slots.loaded:
            yield _Answer(404, _once(_unknown(model)))
            return
        self.running += 1
        try:
            if model == self.base_model:
                yield await self._respond(path, request)
            else:
                async with self.slots.use(model):
                    yield await self._respond(path, request)
        finally:
            self.running -= 1

    async def _respond(self, path: str, request: Mapping[str, Any]) -> _Answer:
        words, life = _prompt_words(request), self.restarts
        chat = path.endswith("chat/completions")
        if len(words) > self._max_model_len:
            return _Answer(400, _once(_too_long(self._max_model_len, len(words))))
        if request.get("stream"):
            events = self._response_events if path == RESPONSES_PATH else partial(self._stream, chat=chat)
            return _Answer(200, self._alive(life, events(request, words), self._took(request, words)))
        took = self._took(request, words)
        await asyncio.sleep(took.prefill_s + took.decode_s)
        if life != self.restarts:
            raise _broke_off()
        self._measured += took
        if path == RESPONSES_PATH:
            return _Answer(200, _once(simulated_responses.whole(request, self._answer(request, words), len(words))))
        return _Answer(200, _once(self._whole(request, words, chat)))

    async def _alive(self, life: int, events: AsyncIterator[bytes], took: EngineSeconds) -> AsyncIterator[bytes]:
        async for event in events:
            if life != self.restarts:
                raise _broke_off()
            yield event
        self._measured += took

    def _took(self, request: Mapping[str, Any], words: list[str]) -> EngineSeconds:
        tokens, settings = self._tokens(request), self._settings
        decode_s = settings.simulated_itl_s * tokens
        return EngineSeconds(1, 0.0, settings.simulated_ttft_s, decode_s, len(words), tokens)

    def _tokens(self, request: Mapping[str, Any]) -> int:
        asked = request.get("max_completion_tokens") or request.get("max_tokens")
        return min(self._settings.simulated_tokens, asked) if asked else self._settings.simulated_tokens

    def _answer(self, request: Mapping[str, Any], words: list[str]) -> list[str]:
        if (chosen := choose(request)) is not None:
            return [chosen[0]]
        source = words or ["nothing"]
        return [f"{source[index % len(source)]} " for index in range(self._tokens(request))]

    def _finish(self, request: Mapping[str, Any], tokens: list[str]) -> str:
        whole = choose(request) is not None or len(tokens) == self._settings.simulated_tokens
        return "stop" if whole else "length"

    def _head(self, request: Mapping[str, Any], kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-simulated", "object": kind, "created": int(time.time()), "model": request.get("model")}

    def _whole(self, request: Mapping[str, Any], words: list[str], chat: bool) -> dict[str, Any]:
        tokens = self._answer(request, words)
        text = "".join(tokens)
        n = request.get("n") or 1
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        chosen = choose(request) if request.get("logprobs") else None
        likely = None if chosen is None else logprobs(*chosen)
        ended = {"logprobs": likely, "finish_reason": self._finish(request, tokens)}
        choices = [{"index": index, **said, **ended} for index in range(n)]
        kind = "chat.completion" if chat else "text_completion"
        return {**self._head(request, kind), "choices": choices, "usage": _usage(len(words), len(tokens) * n)}

    async def _stream(self, request: Mapping[str, Any], words: list[str], chat: bool) -> AsyncIterator[bytes]:
        head = self._head(request, "chat.completion.chunk" if chat else "text_completion")
        n = request.get("n") or 1
        tokens = self._answer(request, words)
        await asyncio.sleep(self._settings.simulated_ttft_s)
        if chat:
            for index in range(n):
                yield _event(head, [_choice(index, chat, "", role="assistant")])
        for position, token in enumerate(tokens):
            if position:
                await asyncio.sleep(self._settings.simulated_itl_s)
            finish = self._finish(request, tokens) if position == len(tokens) - 1 else None
            for index in range(n):
                yield _event(head, [_choice(index, chat, token, finish=finish)])
        if (request.get("stream_options") or {}).get("include_usage"):
            yield _event(head, [], usage=_usage(len(words), len(tokens) * n))
        yield b"data: [DONE]\n\n"

    async def _response_events(self, request: Mapping[str, Any], words: list[str]) -> AsyncIterator[bytes]:
        await asyncio.sleep(self._settings.simulated_ttft_s)
        tokens = self._answer(request, words)
        for number, event in enumerate(simulated_responses.events(request, tokens, len(words))):
            if event["type"] == "response.output_text.delta":
                await asyncio.sleep(self._settings.simulated_itl_s)
            data = orjson.dumps({**event, "sequence_number": number})
            yield b"event: " + event["type"].encode() + b"\ndata: " + data + b"\n\n"


def _broke_off() -> UpstreamFailed:
    return UpstreamFailed("the engine broke off its answer: it crashed", code="engine_broke_off")


async def _once(value: Mapping[str, Any]) -> AsyncIterator[bytes]:
    yield orjson.dumps(value)


def _prompt_words(request: Mapping[str, Any]) -> list[str]:
    prompt = request.get("prompt")
    if isinstance(prompt, str):
        return prompt.split()
    if "input" in request:
        return simulated_responses.prompt_text(request).split()
    texts = (message.get("content") for message in request.get("messages") or [])
    return " ".join(text for text in texts if isinstance(text, str)).split()


def _choice(index: int, chat: bool, text: str, role: str | None = None, finish: str | None = None) -> dict[str, Any]:
    if not chat:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    delta = {"role": role, "content": text} if role else {"content": text}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _event(head: Mapping[str, Any], choices: list[dict[str, Any]], **extra: Any) -> bytes:
    return b"data: " + orjson.dumps({**head, "choices": choices, **extra}) + b"\n\n"


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**counts, "prompt_tokens_details": {"cached_tokens": 0}}


def _unknown(model: object) -> dict[str, Any]:
    message = f"The model `{model}` does not exist."
    return {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}


def _too_long(limit: int, tokens: int) -> dict[str, Any]:
    message = f"This model's maximum context length is {limit} tokens. However, your prompt contains {tokens}."
    return {"error": {"message": message, "type": "BadRequestError", "param": "messages", "code": 400}}
