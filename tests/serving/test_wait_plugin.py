"""That vLLM's queues, with our plugin, hand over every message without spinning; and that vLLM finds the plugin."""

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from serving.engine.lora_plugin import GROUP, TESTED, vllm_version
from serving.engine.wait_plugin import NAME, register
from tests.conftest import ROOT

needs_vllm = pytest.mark.skipif(vllm_version() not in TESTED, reason=f"needs vLLM {', '.join(TESTED)}")

# A reader that waits: its processor seconds, for messages that come one by one and for silence between them.
_IN_VLLM = """
import sys, threading, time
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
from serving.engine.wait_plugin import register
if sys.argv[1] == "ours":
    register(); register()
writer = MessageQueue(1, 1)
reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
threading.Thread(target=writer.wait_until_ready).start()
reader.wait_until_ready()
got = []
def read():
    for _ in range(60):
        got.append(reader.dequeue())
    used.append(time.thread_time())
used = []
thread = threading.Thread(target=read)
thread.start()
for number in range(60):
    time.sleep(0.01 if number % 3 else 0.0)  # also two at once
    writer.enqueue(number)
thread.join(30)
print(got == list(range(60)), used[0])
"""

# A message whose notification gets lost: seconds until it is read all the same.
_LOST = """
import sys, threading, time
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
from serving.engine.wait_plugin import register
if sys.argv[1] == "ours":
    register()
class Lost:
    def notify(self):
        pass
writer = MessageQueue(1, 1)
reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
threading.Thread(target=writer.wait_until_ready).start()
reader.wait_until_ready()
took = []
def read():
    reader.dequeue()
    sent = reader.dequeue()
    took.append(time.monotonic() - sent)
thread = threading.Thread(target=read)
thread.start()
writer.enqueue(0.0)
time.sleep(1.5)  # it waits now, stock or not
writer._spin_condition = Lost()
writer.enqueue(time.monotonic())
thread.join(30)
print(took[0])
"""


def _read(how: str) -> tuple[bool, float]:
    done = subprocess.run([sys.executable, "-c", _IN_VLLM, how], capture_output=True, check=True, cwd=ROOT, text=True)
    whole, used = done.stdout.splitlines()[-1].split()
    return whole == "True", float(used)


def test_the_package_offers_it() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    assert EntryPoint(NAME, stated[NAME], GROUP).load() is register


@needs_vllm
@pytest.mark.slow
def test_every_message_arrives_and_waiting_for_it_costs_little() -> None:
    (whole, ours), (_, stock) = _read("ours"), _read("stock")
    assert whole
    assert ours < stock / 3


@needs_vllm
@pytest.mark.slow
def test_a_lost_notification_costs_no_five_seconds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOST, "ours"], capture_output=True, check=True, cwd=ROOT, text=True, timeout=60
    )
    assert float(done.stdout.split()[-1]) < 1
