"""A simulated gateway as a process of its own: says where it is on its first line, and ends with its standard input."""

import asyncio
import json
import sys
from pathlib import Path

from tests.serving.gateways import running, settings_for


async def main(home: str, sections: str) -> None:
    async with running(settings_for(Path(home), **json.loads(sections))) as stack:
        print(stack.url, flush=True)  # noqa: T201  # the test that started this reads it
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
