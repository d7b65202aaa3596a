"""Free memory goes back to the operating system, although something lies on top of it."""

import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from adapters.memory import Spare

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

pieces = [bytearray(b"x" * 100_000) for _ in range(2000)]
del pieces[:-1]
full = held()
Spare(every_s=60).give_back()
waited = held()
Spare(every_s=0).give_back()
print(full - waited, full - held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_what_is_free_is_given_back_once_in_a_while() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    at_once, given = map(int, done.stdout.split())
    assert at_once < 20
    assert given > 100
