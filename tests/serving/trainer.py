"""A trainer in a process of its own, without torch: the real run folder, lock and journal, steps that take no time.

`python trainer.py RECIPE_FOLDER OUT SCRIPT`, where the script says how the run goes: `succeed`, `fail`, `die`, or
`wait` until it is asked to stop (and then go on to the end when it is started again).
"""

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from adapters.progress import Event
from adapters.runs import RunFolder
from tests.serving.adapter_folders import write_adapter


def main(recipe: Path, out: Path, script: str) -> int:
    """Returns the exit status."""
    run = RunFolder(out)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda which, _: stopped.append(which))

    def tell(**changes: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        run.journal.append(Event(**{"time": now, "tokens": 40, "steps": 4, **changes}))  # type: ignore[arg-type]  # fields of Event

    if script == "refuse":
        print("error: recipe.toml: correct these keys", file=sys.stderr)  # noqa: T201  # as the command line does
        return 1
    busy = out.with_name("was-busy")
    if script == "busy" and not busy.exists():
        busy.touch()
        return 75
    with run.held():
        again = run.journal.last() is not None
        run.open(recipe.name)
        tell(state="preparing")
        if script == "fail" or not (recipe / "train.jsonl").read_text().startswith("{"):
            tell(state="failed", error="train.jsonl:1: not JSON")
            return 1
        for step in (1, 2, 3, 4):
            tell(state="training", step=step, loss=1 / step, checkpoint=step if step % 2 == 0 else None, eta_s=5.0)
            if script == "die" and not again and step == 2:
                return 137
            while script == "wait" and not again and step == 2 and not stopped and run.requested() is None:
                time.sleep(0.02)
            if stopped or run.requested() is not None:
                cancelled = run.requested() == "cancel"
                run.forget_request()
                tell(state="cancelled" if cancelled else "paused", step=step)
                return 130 if cancelled else 75
        write_adapter(out, seed=1)
        tell(state="succeeded", step=4)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
