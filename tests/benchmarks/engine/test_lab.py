"""The engine experiments' own arithmetic, against a small server over real sockets; vLLM itself is for tests/e2e."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.engine.lab import Server, Timing, drive, ready
from benchmarks.engine.lora import _conditions, make_adapter
from benchmarks.engine.prefix import compose
from benchmarks.errors import EndpointError
from benchmarks.load.workload import synthetic
from benchmarks.processes import free_port
from retrieval.passages import Passage

METRICS = """# HELP vllm:hits_total of blocks
vllm:hits_total{engine="0"} 3.0
vllm:hits_total{engine="1"} 4.5
vllm:hits_total_created{engine="0"} 1e9
"""


class Endpoint(BaseHTTPRequestHandler):
    """Streams as many tokens as asked for; the model `short` one less."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        models = json.dumps({"data": [{"id": "a"}, {"id": "b"}, {"id": "short"}]})
        self._send(METRICS if self.path == "/metrics" else models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((body["model"], body["messages"][0]["content"]))
        assert body["ignore_eos"]
        tokens = body["max_tokens"] - (body["model"] == "short")
        events: list[object] = [{"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}] * tokens
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 9}})
        self._send("".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _send(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if text.startswith("data") else "text/plain")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def server() -> Iterator[Server]:
    Endpoint.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield Server(f"http://127.0.0.1:{http.server_address[1]}", ("a", "b"))
        http.shutdown()


def test_users_are_split_over_models_and_no_prompt_is_asked_twice(server: Server) -> None:
    done = drive(server.url, ("a", "b"), synthetic(5), concurrency=4, requests=8, max_tokens=6)
    assert (done.requests, done.tokens_per_s > 0) == (8, True)
    assert sorted(model for model, _ in Endpoint.asked) == ["a"] * 4 + ["b"] * 4
    assert len({prompt for _, prompt in Endpoint.asked}) == 8
    assert {prompt for _, prompt in Endpoint.asked} == {
        synthetic(5).prompt(at).messages[0]["content"] for at in range(8)
    }


def test_a_round_with_a_short_answer_is_no_measurement(server: Server) -> None:
    with pytest.raises(EndpointError, match="short"):
        drive(server.url, ("short",), synthetic(5), concurrency=1, requests=1, max_tokens=6)


def test_counters_are_summed_over_labels_and_not_mixed_up(server: Server) -> None:
    assert server.counters("vllm:hits_total", "vllm:none") == (7.5, 0)


def test_what_does_not_come_up_is_said_to_be_missing() -> None:
    with pytest.raises(EndpointError, match="did not come up"):
        ready(f"http://127.0.0.1:{free_port()}", within_s=0.1)


def test_made_up_adapters_fit_the_model(tmp_path: Path) -> None:
    shapes = {"model.layers.0.self_attn.q_proj.weight": (6, 4), "model.layers.0.input_layernorm.weight": (4,)}
    model = tmp_path / "model"
    model.mkdir()
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, model / "model.safetensors")
    tensors = load_file(make_adapter(tmp_path / "one", model, 1, 2) / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    assert {name: each.shape for name, each in tensors.items()} == {
        f"{stem}.lora_A.weight": (2, 4),
        f"{stem}.lora_B.weight": (6, 2),
    }
    other = load_file(make_adapter(tmp_path / "two", model, 2, 2) / "adapter_model.safetensors")
    assert not np.array_equal(other[f"{stem}.lora_B.weight"], tensors[f"{stem}.lora_B.weight"])


def test_the_orders_that_are_compared() -> None:
    def passage(source: str, text: str) -> Passage:
        return Passage("id-" + source, "kb", source, "Title", "Heading", text, 0, 1, 0.5)

    found = [passage("z.md", "best"), passage("a.md", "second")]
    prompts = {order: compose("Why?", found, order)[0]["content"] for order in ("document order", "best first")}
    assert prompts["document order"].index("second") < prompts["document order"].index("best")
    assert prompts["best first"].index("best") < prompts["best first"].index("second")
    assert "z.md" not in prompts["document order"] and "000" not in prompts["best first"]


def test_shares_are_of_the_same_round() -> None:
    def round_(speed: float) -> Timing:
        return Timing(1, 1, speed, None, None)

    slow_then_fast = {
        "base": [round_(100), round_(200)],
        "base beside adapters": [round_(90), round_(180)],
        "one adapter": [round_(80), round_(160)],
    }
    assert _conditions(slow_then_fast)[2].against == {"base": 0.8, "base beside adapters": 0.889}
