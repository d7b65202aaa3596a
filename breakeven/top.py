"""`breakeven top`: the live break-even of a running gateway, over HTTP."""

import time
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from benchmarks.economics.live_terminal import frame
from breakeven.console import Config
from serving.access import gateway_url
from serving.remote import RemoteError, RemoteGateway, quoted
from serving.settings import client_api_key, load_settings


def top(
    window: Annotated[str | None, typer.Option(help="Latest traffic to look at: 15m, 24h, 7d.")] = None,
    url: Annotated[str | None, typer.Option(help="Gateway; default: the one on this state.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two frames.")] = 5.0,
    config: Config = None,
) -> None:
    """Watch what a running gateway's traffic costs, and where it breaks even; Ctrl-C ends it.

    With keys, BREAKEVEN_API_KEY must hold an operator's.
    """
    where = (url or gateway_url(load_settings(config))).removesuffix("/").removesuffix("/v1")
    gateway = RemoteGateway(where, client_api_key())
    path = "economics" if window is None else f"economics?window={quoted(window)}"

    def drawn(console: Console) -> RenderableType:
        found: dict[str, Any] = gateway.call("GET", path)
        return frame(found, where, console.width)

    # Not the usual output: that leaves lines unbroken for pipes, and a frame has a width.
    screen = Console(highlight=False)
    if once or not screen.is_terminal:
        screen.print(drawn(screen))
        return
    with Live(drawn(screen), console=screen, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            try:
                live.update(drawn(screen), refresh=True)
            except RemoteError as error:
                if error.status:
                    raise
                live.update(Text(f"{error}; trying again", "red"), refresh=True)
