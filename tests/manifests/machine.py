"""What a node and its container runtime are here: a folder, loopback addresses, and the programs installed beside us.

The whole of the mapping from manifests to this machine is in this file. A container's command, environment, files and
probes are taken as rendered, and only this is changed in them:
- a path under a mount becomes the folder of that volume, and the image's own files become the repository's;
- 0.0.0.0 and 127.0.0.1 become the pod's own address of 127.0.0.0/8, so that ports stay as they are;
- the names of Services are looked up in a hosts file (services.py), and Envoy's DNS client is the C library's;
- the cluster's seconds pass `pace` times as fast: probes, back-off and preStop here, DNS and health checks in Envoy.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.k8s.manifests import Manifest
from tests.servers import postgres_programs

ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent
_GETADDRINFO = {
    "name": "envoy.network.dns_resolver.getaddrinfo",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
    },
}
# What is in the gateway's image beside the program.
IMAGE_FILES = {"/opt/breakeven": str(ROOT)}
Fit = Callable[[list[str], dict[str, str]], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True)
class Programs:
    """What runs for the gateway's and for vLLM's command, with the arguments and the variables of the manifest.

    `pace`: how many of the cluster's seconds pass in one of ours.
    """

    gateway: str
    engine: str
    pace: float
    # Changes arguments and variables of the engine, for what this machine is.
    fitted: Fit


def _unhurried(arguments: list[str], variables: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Answers that take most of a second, so that something is always running when something ends."""
    return [*arguments, "--ttft=0.1", "--itl=0.03", "--tokens=20"], variables


# A gateway that needs no embedding model, and a peer of vLLM without a model.
LIGHT = Programs("tests.manifests.light_gateway", "tests.simulated_vllm", 20, _unhurried)


def own_mounts() -> list[str]:
    """What begins a command that sees mounts of its own."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


@dataclass(frozen=True)
class Launch:
    """A process as the operating system takes it."""

    command: list[str]
    variables: dict[str, str]
    user: str | None = None


@dataclass(frozen=True)
class Machine:
    """`paths` are one pod's: where its mounts are here; `address` is its own."""

    root: Path
    address: str
    paths: Mapping[str, Path]
    hosts: Path
    programs: Programs

    def text(self, value: str) -> str:
        """A word, a variable or a file of the container's, as it must read here."""
        places = {**IMAGE_FILES, **{mount: str(folder) for mount, folder in self.paths.items()}}
        places |= dict.fromkeys(("0.0.0.0", "127.0.0.1"), self.address)  # noqa: S104  # replaced, not bound
        longest_first = sorted(places, key=len, reverse=True)
        pattern = rf"(?<![\w./-])({'|'.join(map(re.escape, longest_first))})(?![\w.-])"
        return re.sub(pattern, lambda match: places[match[1]], value)

    def launch(self, container: Manifest, variables: Mapping[str, str], command: Sequence[str] | None = None) -> Launch:
        """The container's process, or with `command` another one inside it."""
        words = [self.text(word) for word in command or (*container.get("command", ()), *container.get("args", ()))]
        given = {name: self.text(value) for name, value in variables.items()}
        given = {"PATH": f"{_BIN}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), **given}
        if "/home/vllm" in self.paths:  # the home of the image's user
            given["HOME"] = str(self.paths["/home/vllm"])
        if container["image"].startswith("postgres:"):
            return self._postgres(words, given)
        if words[:3] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]:
            arguments, given = self.programs.fitted(words[3:], given)
            words = [sys.executable, "-m", self.programs.engine, *arguments]
        elif words[0] in ("python", "python3"):
            words[0] = sys.executable
        elif words[0] == "breakeven":
            words = [sys.executable, "-m", self.programs.gateway, *words[1:]]
        elif words[0] == "envoy":
            words += ["--concurrency", "1"]
        return Launch([*self._with_names(), *words], given)

    def file(self, name: str, content: str) -> str:
        """A file of a ConfigMap as the container sees it."""
        content = self.text(content)
        if name != "envoy.yaml":
            return content
        tree = yaml.safe_load(content)
        for cluster in tree["static_resources"]["clusters"]:
            if cluster["type"] == "STRICT_DNS":
                cluster["typed_dns_resolver_config"] = _GETADDRINFO
                cluster["dns_refresh_rate"] = self._faster(cluster["dns_refresh_rate"])
            for check in cluster.get("health_checks", ()):
                check |= {name: self._faster(check[name]) for name in ("interval", "no_traffic_interval")}
        return str(yaml.safe_dump(tree))

    def _faster(self, seconds: str) -> str:
        return f"{float(seconds.removesuffix('s')) / self.programs.pace:g}s"

    def _with_names(self) -> list[str]:
        """Our /etc/hosts for this process alone, as the kubelet gives each pod its own."""
        return [*own_mounts(), "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(self.hosts)]

    def _postgres(self, words: list[str], given: dict[str, str]) -> Launch:
        """What the image's entrypoint does, and the programs that its probes name."""
        found = postgres_programs()
        assert found is not None
        programs = (found / "initdb").resolve().parent
        user = "postgres" if os.geteuid() == 0 else None
        if words and not words[0].startswith("-"):
            return Launch([str(programs / words[0]), *words[1:]], given, user)
        script = (
            'test -s "$PGDATA/PG_VERSION" || { printf %s "$POSTGRES_PASSWORD" > "$0/pw" && '
            '"$1/initdb" -D "$PGDATA" -U "$POSTGRES_USER" -A scram-sha-256 --pwfile="$0/pw" -E UTF8 --no-sync && '
            'echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf" && '
            'echo "CREATE DATABASE $POSTGRES_DB" | "$1/postgres" --single -D "$PGDATA" postgres; } '
            '&& exec "$1/postgres" -D "$PGDATA" "${@:2}"'
        )
        run = str(self.paths["/var/run/postgresql"])
        places = ["-c", f"listen_addresses={self.address}", "-c", f"unix_socket_directories={run}"]
        return Launch(["bash", "-c", script, run, str(programs), *places, *words], given, user)
