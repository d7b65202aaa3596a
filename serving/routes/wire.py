"""A client's connection, as uvicorn keeps it, without what costs something with every answer: a timer for idle
connections that is set anew each time, and the lines that all heads have in common put together again.
"""

from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class Wire(HttpToolsProtocol):
    """See HttpToolsProtocol for all that has no other description."""

    # When the last answer went, on the loop's clock; None while there is something to do.
    idle_since: float | None = None
    # uvicorn's headers of every answer, which are others each second, and what they look like.
    dated: ClassVar[tuple[object, bytes]] = (None, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Because the client left, or we did."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def on_response_complete(self) -> None:
        """The timer for idle connections is not set anew with each answer, which costs more than to write it: it looks
        at the clock when it is due."""
        if self.timeout_keep_alive_task is None or self.pipeline:
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            if not self.transport.is_closing():
                self.flow.resume_reading()
        self.idle_since = self.loop.time() if self.answered() else None

    def timeout_keep_alive_handler(self) -> None:
        """It is due."""
        self.timeout_keep_alive_task = None
        if self.idle_since is None:
            return  # the next answer sets it
        left = self.idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def handle_websocket_upgrade(self) -> None:
        """Another protocol would get the connection, and who is being answered would not hear of its end."""
        if self.answered():
            super().handle_websocket_upgrade()
        else:
            self.transport.close()

    def default_head(self) -> bytes:
        """Lines of every answer's head."""
        given = self.server_state.default_headers
        if Wire.dated[0] is not given:
            Wire.dated = (given, b"".join([b"%b: %b\r\n" % each for each in given]))
        return Wire.dated[1]

    def _unset_keepalive_if_required(self) -> None:
        self.idle_since = None

    def answered(self) -> bool:
        """Whether nobody waits for an answer."""
        before = cast("RequestResponseCycle | None", self.cycle)
        return before is None or before.response_complete
