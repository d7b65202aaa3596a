"""What the machine is, in more detail than every result says anyway: clocks, power, memory and software."""

import shutil
import subprocess

from benchmarks.gpu.setup import Setup

_FIELDS = (
    *("name", "uuid", "driver_version", "vbios_version", "memory.total", "power.limit", "clocks.max.sm"),
    *(
        "clocks.max.memory",
        "pcie.link.gen.max",
        "pcie.link.width.max",
        "compute_cap",
        "mig.mode.current",
        "ecc.mode.current",
    ),
)


def fingerprint(setup: Setup) -> None:
    """Writes it, with nothing measured."""
    tool = shutil.which("nvidia-smi")
    gpu: dict[str, str] = {}
    if tool is not None:
        query = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
        values = answer.stdout.strip().split(", ")
        gpu = dict(zip(_FIELDS, values, strict=True)) if len(values) == len(_FIELDS) else {"said": answer.stdout}
    price = setup.machine.price
    priced = {"usd_per_hour": str(price.usd_per_hour), "source": price.source, "as_of": price.as_of}
    setup.write("fingerprint", {"scale": setup.scale.name, "gpu": gpu, "price": priced})
