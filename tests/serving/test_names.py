"""Look-ups of host names: a name server that hangs costs one thread for each host that it hangs on, and nobody else."""

import asyncio
import socket
import threading

import pytest

from serving.accounting import paid_engines as billed
from serving.engine import fleet as engines
from serving.engine.http import Connections
from serving.errors import EngineUnavailable
from serving.names import Addresses, Names
from serving.sections import Settings

# What no name server is ever asked: a part of a name has at most 63 characters, and at least one.
IMPOSSIBLE = ("a" * 64 + ".example", "engine..svc")


class Server:
    """A name server that is silent about one host until it is told to speak."""

    def __init__(self) -> None:
        self.speaks, self.asked = threading.Event(), list[str]()

    def __call__(self, host: str) -> Addresses:
        self.asked.append(host)
        if host == "silent":
            self.speaks.wait(10)
        if host == "nobody":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return ("10.0.0.1", "fd00::1")


async def test_a_host_that_hangs_holds_up_no_other_and_has_one_thread() -> None:
    server = Server()
    names = Names(server)
    given_up = await asyncio.gather(*(names.addresses("silent", 0.05) for _ in range(50)), return_exceptions=True)
    assert {type(each) for each in given_up} == {TimeoutError}
    assert "silent" in str(given_up[0])
    assert await names.addresses("engine", 5) == ("10.0.0.1", "fd00::1")
    assert server.asked == ["silent", "engine"]
    waiting = asyncio.create_task(names.addresses("silent", 5))
    gives_up = asyncio.create_task(names.addresses("silent", 5))
    await asyncio.sleep(0)
    gives_up.cancel()
    server.speaks.set()
    assert await waiting == ("10.0.0.1", "fd00::1")
    await asyncio.gather(gives_up, return_exceptions=True)
    assert gives_up.cancelled()
    await names.addresses("silent", 5)
    assert server.asked.count("silent") == 2  # answers are not kept


async def test_nothing_keeps_an_error() -> None:
    server = Server()
    names = Names(server)
    for _ in range(2):
        with pytest.raises(socket.gaierror) as found:
            await names.addresses("nobody", 5)
        assert found.value.errno == socket.EAI_NONAME
    assert len(server.asked) == 2


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(literal: str) -> None:
    server = Server()
    assert await Names(server).addresses(literal, 1) == (literal,)
    assert not server.asked


@pytest.mark.parametrize("host", IMPOSSIBLE)
async def test_a_name_that_cannot_be_is_one_that_is_not_there(host: str) -> None:
    with pytest.raises(socket.gaierror):
        await billed.address_count(host)
    assert await engines.addresses(f"http://{host}:8000") == []
    with pytest.raises(EngineUnavailable):
        await Connections(f"http://{host}:8000", {}).connect(5)


@pytest.mark.parametrize("host", IMPOSSIBLE)
@pytest.mark.parametrize(
    "tree",
    [
        {"engine": {"url": "http://HOST:8000"}},
        {"engine": {"url": "http://engine:8000", "replicas": ["http://HOST:8000"]}},
        {"cost": {"engines_host": "HOST"}},
        {"cost": {"gateways_host": "HOST"}},
    ],
)
def test_settings_refuse_it(tree: dict[str, dict[str, object]], host: str) -> None:
    named = {
        section: {
            key: [host.join(str(each).split("HOST")) for each in value]
            if isinstance(value, list)
            else str(value).replace("HOST", host)
            for key, value in fields.items()
        }
        for section, fields in tree.items()
    }
    with pytest.raises(ValueError, match="no host name"):
        Settings.model_validate(named)


@pytest.mark.parametrize("url", ["engine:8000", "http://", "http://engine:99999", "ftp://engine", "http://[::1"])
def test_settings_refuse_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="http://engine:8000"):
        Settings.model_validate({"engine": {"url": url}})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://my_engine/v2", "http://[::1]:8000", "http://user@engine", "http://a.b.:1"]
)
def test_settings_take_every_url(url: str) -> None:
    assert Settings.model_validate({"engine": {"url": url, "replicas": [url]}}).engine.replicas == (url,)
