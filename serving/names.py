"""Addresses of host names, so that a name server that hangs holds up nobody who asks for another host.

The event loop's own look-ups share a few threads (four with uvloop), and giving up on one frees none: a host that is
looked up every second while its name server is silent soon has them all, and then nothing is found any more, the engine
neither. Here a host has one look-up at a time, in a thread that ends with the process, and whoever asks meanwhile waits
for that one.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address

# IPv4 and IPv6 as text.
Addresses = tuple[str, ...]
# May take as long as it likes. Raises OSError, UnicodeError.
Ask = Callable[[str], Addresses]


def _ask(host: str) -> Addresses:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Names:
    """Any thread and event loop may use it."""

    def __init__(self, ask: Ask = _ask) -> None:
        self._ask = ask
        self._running: dict[str, Future[Addresses]] = {}
        self._lock = threading.Lock()

    async def addresses(self, host: str, within_s: float) -> Addresses:
        """In the name server's order, each once. Raises OSError; TimeoutError, which is one, without an answer in time;
        gaierror with EAI_NONAME for what there is not or can never be."""
        try:
            return (str(ip_address(host)),)
        except ValueError:
            pass
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.wrap_future(self._lookup(host))
        except TimeoutError:
            raise TimeoutError(f"the name server says nothing about {host[:100]!r} within {within_s:g} s") from None

    def _lookup(self, host: str) -> "Future[Addresses]":
        with self._lock:
            if (running := self._running.get(host)) is not None:
                return running
            future: Future[Addresses] = Future()
            future.set_running_or_notify_cancel()  # from here on nobody who gives up cancels it for the others
            threading.Thread(target=self._find, args=(host, future), name=f"dns {host[:64]}", daemon=True).start()
            self._running[host] = future
            return future

    def _find(self, host: str, future: "Future[Addresses]") -> None:
        found: Addresses = ()
        error: BaseException | None = None
        try:
            found = self._ask(host)
        except UnicodeError:  # a part of the name is empty or longer than 63 characters
            error = socket.gaierror(socket.EAI_NONAME, f"{host[:100]!r} is no host name")
        except BaseException as failure:  # whatever it is, somebody waits for it
            error = failure
        with self._lock:
            del self._running[host]
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)


# Of this process.
NAMES = Names()
