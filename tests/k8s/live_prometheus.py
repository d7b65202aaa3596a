"""A real Prometheus with our own configuration and rules, scraping a gateway under traffic and a recorded vLLM.

The gateway is the whole product with the simulated engine. vLLM's series are a recording of a real one: it takes a
minute of two cores to start, and tests/e2e compares the recording with a live one. kube-state-metrics' are written by
hand after its documentation, because there is no cluster.
"""

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from serving.accounting.economics import Appraisal
from serving.accounting.ledger.traffic import Traffic
from tests.benchmarks.economics.test_live import FULL, live, seen
from tests.k8s.monitoring import MONITORING, program
from tests.servers import free_port
from tests.serving.adapter_folders import installed
from tests.serving.gateways import MODELS, Running, running, settings_for

DATA = Path(__file__).parent / "data"
RECORDING = DATA / "vllm-0.32.0.prom"
# By path; each is scraped as a job of its own.
PAGES = {"/metrics": RECORDING, "/cluster": DATA / "kube-state-metrics.prom"}
POOLS = ("ours", "gke", "eks", "aks", "NVIDIA-H100-80GB-HBM3")
ROUTER: dict[str, Any] = {
    "model": "classifier",
    "labels": {"rain gauge": "books", "greeting": "polite"},
    "min_confidence": 0.8,
    "fallback": "plain",
}
SERVED: dict[str, Any] = {
    **MODELS,
    "classifier": {"system_prompt": "Intent"},
    "desk": {"router": ROUTER},
    "tone": {"adapter": "tone", "canary": {"share": 0.5}},
}
_START_S = 30


class _Recorded(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the recording that the path names."""
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(PAGES[self.path].read_bytes())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def recorded_vllm() -> Iterator[str]:
    """host:port of what answers as vLLM's /metrics did when it was recorded."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def busy_gateway(home: Path) -> Iterator[str]:
    """URL of a gateway that is asked one request after another, of every kind, until the end."""
    started, stop, found = threading.Event(), threading.Event(), list[Running]()

    async def serve() -> None:
        _, canary = await asyncio.to_thread(installed, home, range(2))
        settings = settings_for(home, models=SERVED, tenants={"local": {"budget": {"usd_per_day": 100}}})
        stacked = running(settings, lambda *_: _Rehearsed())
        async with stacked as stack, httpx.AsyncClient(base_url=stack.url) as http:
            where = "/v1/breakeven/adapters/tone/promote"
            answer = await http.post(where, json={"version": canary.version, "alias": "canary"})
            assert answer.status_code == 200, answer.text
            while not stop.is_set():
                await _traffic(http)
                if not found:
                    found.append(stack)
                    started.set()
                await asyncio.sleep(0.3)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(_START_S), "the gateway did not start"
        yield found[0].url
    finally:
        stop.set()
        thread.join(_START_S)


async def _traffic(http: httpx.AsyncClient) -> None:
    """One of each: answered, streamed, cited, abstained, routed, refused, by prod and by a canary, with votes."""
    kinds: tuple[dict[str, Any], ...] = (
        {"model": "plain"},
        {"model": "plain", "stream": True},
        {"model": "polite", "n": 10**6},
        {"model": "books", "text": "how much water does the rain gauge hold"},
        {"model": "books", "text": "quantum chromodynamics of quarks"},
        {"model": "desk", "text": "how much water does the rain gauge hold"},
        *({"model": "tone", "user": f"user-{number}"} for number in range(6)),
    )
    for fields in kinds:
        text = fields.pop("text", "one two three")
        body = {**fields, "messages": [{"role": "user", "content": text}]}
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code in (200, 400), answer.text
        if fields["model"] == "tone":
            vote = {"request_id": answer.json()["breakeven"]["request_id"], "vote": "up"}
            assert (await http.post("/v1/feedback", json=vote)).status_code == 200


class _Rehearsed:
    """An Economist that has seen ten half minutes of a busy engine: a real one would have to wait for them."""

    def appraise(self, traffic: Traffic) -> Appraisal:
        """What the model says of that traffic, whatever this gateway's is."""
        del traffic
        return live().appraise(seen(*(replace(FULL, answered=FULL.answered - number % 3) for number in range(10))))


class LivePrometheus:
    """Asks a running Prometheus by its HTTP API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=30)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What an instant query gives. Raises AssertionError with Prometheus' own words if it cannot be evaluated."""
        answer = self._get("/query", query=expr)
        result = answer["result"]
        return result if answer["resultType"] == "vector" else [{"metric": {}, "value": result}]

    def series(self, matcher: str) -> list[dict[str, str]]:
        """Label sets of the series that a selector meets."""
        found: list[dict[str, str]] = self._get("/series", **{"match[]": matcher})
        return found

    def broken_rules(self) -> list[str]:
        """Rules that Prometheus failed to evaluate, with its words."""
        rules = [rule for group in self._get("/rules")["groups"] for rule in group["rules"]]
        assert rules
        return [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]

    def _get(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", answer.get("error")
        return answer["data"]


@contextmanager
def live_prometheus(folder: Path, gateway: str, engine: str) -> Iterator[LivePrometheus]:
    """k8s/monitoring's own configuration, with these targets and a second between scrapes, after some scrapes."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / each) for each in config["rule_files"]]
    for job, target in zip(config["scrape_configs"], (gateway, engine), strict=True):
        job.pop("file_sd_configs", None)
        job["static_configs"] = [{"targets": [target]}]
    cluster = {"job_name": "kube-state-metrics", "metrics_path": "/cluster", "honor_labels": True}
    config["scrape_configs"].append({**cluster, "static_configs": [{"targets": [engine]}]})
    prices = [
        {"record": "breakeven_pool_usd_per_gpu_hour", "expr": "vector(2.5)", "labels": {"pool": pool}} for pool in POOLS
    ]
    (folder / "prices.yaml").write_text(yaml.safe_dump({"groups": [{"name": "prices", "rules": prices}]}))
    config["rule_files"].append(str(folder / "prices.yaml"))
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config))
    command = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process)
            yield LivePrometheus(url)
        finally:
            process.terminate()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Until every target was scraped and every rule evaluated a few times."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            live = LivePrometheus(url)
            seen = live.query("count(min_over_time(up[1m]) == 1 and count_over_time(up[1m]) >= 4)")
            if seen and float(seen[0]["value"][1]) == 3 and live.query('{__name__=~"breakeven:.+rate1d"}'):
                return
        except (httpx.HTTPError, AssertionError, ValueError):  # one that starts answers with plain text
            pass
        time.sleep(0.3)
    raise AssertionError("Prometheus did not scrape all targets")
