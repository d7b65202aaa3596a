"""A probe of a port, as the kubelet makes it: a connection, and an HTTP request on it if there is a path."""

import asyncio


async def answers(host: str, port: int, path: str | None, within_s: float) -> bool:
    """Whether it is there, and for a path says 200 to 399."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if path is None:
                    return True
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                status = int((await reader.readline()).split()[1])
            finally:
                writer.close()
            return 200 <= status < 400
    except (OSError, TimeoutError, IndexError, ValueError):
        return False
