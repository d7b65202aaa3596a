"""`breakeven serve`: the engine, the gateway and the documents, from the first probe to `ready:`."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from benchmarks.prices import load_prices
from benchmarks.prices.validity import current, notes
from breakeven.console import Config, console, output
from serving.accounting.cost import GpuPrice, Prices
from serving.accounting.economics import Appraisal, Economist
from serving.accounting.ledger.traffic import Traffic
from serving.app import bind, check_bind, create_app, run, settle
from serving.auth import keys_of
from serving.engine.device import Device
from serving.gateway import EconomistFor, PricesFor, open_gateway
from serving.library import fill_knowledge
from serving.sections import Settings
from serving.settings import SettingsError, load_settings, share_cores
from serving.terminal import Stages, welcome

if TYPE_CHECKING:  # it brings the libraries that documents need
    from retrieval.embedder import Embedder


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Bind address.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
) -> None:
    """Start the engine and the gateway; Ctrl-C stops both."""
    share_cores()
    serve_settings(load_settings(config, overrides={"server.host": host, "server.port": port}))


def serve_settings(settings: Settings, embedder: "Embedder | None" = None) -> None:
    """Until the process is told to end; `embedder` replaces the configured one."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("breakeven").setLevel(logging.INFO)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, embedder))


async def _serve(settings: Settings, embedder: "Embedder | None") -> None:
    with keys_of(settings) as keys:
        check_bind(settings.server, keys)
    listener = bind(settings.server)
    address = listener.getsockname()
    host = "127.0.0.1" if address[0] in ("0.0.0.0", "::") else address[0]  # noqa: S104  # compared, not bound
    url = f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"
    stages, app = Stages(console), create_app()
    try:
        async with AsyncExitStack() as stack:

            async def prepare() -> None:
                prices_for, economist_for = _prices_for(settings), _economist(settings)
                opened = open_gateway(settings, prices_for, url, stages, embedder, economist_for)
                gateway = app.state.gateway = await stack.enter_async_context(opened)
                failures = await asyncio.to_thread(fill_knowledge, settings, gateway.library, stages)
                gateway.documents_in.set()
                await gateway.engine_started
                stages.stop()
                for line in (*failures, *gateway.catalogue.left_out, await gateway.knowledge.note()):
                    if line:
                        console.print(f"note: {line}")
                simulated, keyed = gateway.engine.simulated, gateway.keys.any()
                settle()
                output.print(welcome(url, gateway.catalogue.names, simulated=simulated, keyed=keyed))

            # Probes are answered from the first second, everything else when it is there.
            await run(app, listener, settings.server, prepare)
    finally:
        stages.stop()
        listener.close()


def _economist(settings: Settings) -> EconomistFor:
    book, cost = load_prices(), settings.cost

    def choose(machine: GpuPrice, accelerators: int) -> Economist:
        def make() -> Economist:
            from benchmarks.economics.live import LiveEconomics, Terms

            terms = Terms(machine, accelerators, cost.hosted_models, cost.assumptions, cost.hosted_retrieval)
            return LiveEconomics(book, terms)

        # What an operator names or assumes may be wrong, and that must stop the start.
        if cost.hosted_retrieval is not None:
            book.unit(cost.hosted_retrieval)
        return make() if cost.assumptions else _WhenAsked(make)

    return choose


class _WhenAsked:
    """An Economist that is made when it is first asked: it brings in libraries of tens of MiB."""

    def __init__(self, make: Callable[[], Economist]) -> None:
        self._made = cache(make)

    def appraise(self, seen: Traffic) -> Appraisal:
        """See Economist."""
        return self._made().appraise(seen)


def _prices_for(settings: Settings) -> PricesFor:
    book, cost = load_prices(), settings.cost

    def choose(device: Device) -> Prices:
        hosted = [current(book, model, date.today()) for model in cost.hosted_models]
        said = [note for _, about in hosted for note in about]
        # Two retired models may have one successor.
        by_id = {price.id: price for price, _ in hosted}
        if cost.usd_per_hour is not None:
            source = cost.source or "cost.usd_per_hour in the configuration"
            gpu = GpuPrice(
                "configured",
                (),
                cost.usd_per_hour,
                source,
                cost.as_of.isoformat() if cost.as_of else "not stated",
                "configured",
            )
        elif settings.engine.url is not None:
            raise SettingsError(
                "set cost.usd_per_hour: what the machine behind engine.url costs cannot be seen from here"
            )
        else:
            gpu = book.cpu if device.kind == "cpu" else book.gpu_for(device.name)
            said += notes(gpu, date.today())
        for note in dict.fromkeys(said):
            console.print(f"note: {note}")
        return Prices(gpu, tuple(by_id.values()))

    return choose
