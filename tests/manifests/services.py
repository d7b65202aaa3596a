"""Services: names in a hosts file that every container sees, and what kube-proxy does for those with an address.

As in a cluster, a change is known everywhere a moment later, by names later than by addresses, and connections that are
there stay where they are.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.k8s.manifests import Manifest

# EndpointSlices and kube-proxy.
_PROPAGATION_S = 1.0
# CoreDNS lets its answers be kept for so long, by itself and by others.
_DNS_TTL_S = 5.0
# Always the same size and written at once: nobody reads half of it.
_HOSTS_BYTES = 8192
_PIECE = 1 << 16


@dataclass(frozen=True)
class Endpoint:
    """A pod as Services see it."""

    labels: Mapping[str, str]
    address: str
    ports: Mapping[str, int]
    ready: bool


@dataclass
class Service:
    """One Service; `endpoints` are the addresses of the pods that it leads to now."""

    manifest: Manifest
    address: str
    endpoints: list[Endpoint] = field(default_factory=list)
    turn: int = 0

    @property
    def name(self) -> str:
        """Its name, by which pods find it."""
        return str(self.manifest["metadata"]["name"])

    @property
    def headless(self) -> bool:
        """Whether its name means the pods themselves."""
        return bool(self.manifest["spec"].get("clusterIP") == "None")

    def follow(self, pods: Iterable[Endpoint]) -> None:
        """Find its pods."""
        spec = self.manifest["spec"]
        chosen = [pod for pod in pods if spec["selector"].items() <= pod.labels.items()]
        self.endpoints = [pod for pod in chosen if pod.ready or spec.get("publishNotReadyAddresses")]

    def addresses(self) -> list[str]:
        """What its name means."""
        return [pod.address for pod in self.endpoints] if self.headless else [self.address]

    async def connect(self, port: Manifest) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the next pod. Raises OSError."""
        if not self.endpoints:
            raise ConnectionRefusedError
        self.turn += 1
        pod = self.endpoints[self.turn % len(self.endpoints)]
        return await asyncio.open_connection(pod.address, pod.ports[port["targetPort"]])


class Network:
    """All Services of the stack. `pods` says what there is; call `changed` when that is no longer so."""

    def __init__(
        self, services: Iterable[Service], hosts: Path, pods: Callable[[], Iterable[Endpoint]], pace: float
    ) -> None:
        self.services = {service.name: service for service in services}
        self._hosts, self._pods, self._pace = hosts, pods, pace
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._follow()
        self._write()

    async def start(self) -> None:
        """Take connections for every Service that has an address of its own."""
        for service in self.services.values():
            for port in () if service.headless else service.manifest["spec"]["ports"]:
                self._servers.append(
                    await asyncio.start_server(self._relay(service, port), service.address, port["port"])
                )

    async def stop(self) -> None:
        """Break everything off."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def changed(self) -> None:
        """A pod came, went, or became ready or not."""
        loop = asyncio.get_running_loop()
        loop.call_later(_PROPAGATION_S / self._pace, self._follow)
        loop.call_later((_PROPAGATION_S + _DNS_TTL_S) / self._pace, self._write)

    def _follow(self) -> None:
        pods = list(self._pods())
        for service in self.services.values():
            service.follow(pods)

    def _write(self) -> None:
        lines = ["127.0.0.1 localhost"]
        for service in self.services.values():
            lines += [f"{address} {service.name}" for address in service.addresses()]
        text = "\n".join(lines).encode().ljust(_HOSTS_BYTES, b"\n")
        handle = os.open(self._hosts, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(handle, text, 0)
        finally:
            os.close(handle)

    def _relay(self, service: Service, port: Manifest) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_joined(service, port, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return accept


async def _joined(service: Service, port: Manifest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        inner_reader, inner_writer = await service.connect(port)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
    finally:
        for each in (writer, inner_writer):
            each.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(_PIECE):
            target.write(piece)
            await target.drain()
        with suppress(OSError):
            target.write_eof()
    except OSError:
        target.transport.abort()
