"""What the person who starts a gateway sees: the stages of the start, and at its end something to paste."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.status import Status

_WELCOME = """served models: {models}
ready: {url}/v1

curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' \\{bearer}
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "{question}"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{key}")
question = {{"role": "user", "content": "{question}"}}
message = client.chat.completions.create(model="{model}", messages=[question]).choices[0].message
print(message.content, message.annotations)
"""


def welcome(url: str, models: Sequence[str], *, simulated: bool, keyed: bool) -> str:
    """What a person can paste, once everything answers."""
    model = "support-handbook" if "support-handbook" in models else models[0]
    warning = "The engine is simulated: answers, timings and costs are not real.\n" if simulated else ""
    question = "How many weeks of parental leave do I get?"
    # Keys are stored hashed, so the reader has to put in his own.
    key, bearer = ("bk-...", "\n  -H 'Authorization: Bearer bk-...' \\") if keyed else ("not-needed-on-loopback", "")
    listed = ", ".join(models)
    return warning + _WELCOME.format(url=url, models=listed, model=model, question=question, key=key, bearer=bearer)


def follow_calibration(steps: Iterable[Mapping[str, Any]], console: Console) -> str:
    """Shows the progress of Documents.calibrate and returns what came of it, in a few lines."""
    return _told(_last(steps, console)["calibration"])


def follow_reranking(steps: Iterable[Mapping[str, Any]], console: Console) -> str:
    """Shows the progress of Documents.judge_reranking and returns what came of it."""
    found = _last(steps, console)["verdict"]
    use = "used from now on" if found["better"] else "not used"
    return f"{found['knowledge']}: {found['told']}\nThe reranker {found['reranker']} is {use} there."


def _last(steps: Iterable[Mapping[str, Any]], console: Console) -> Mapping[str, Any]:
    stages, step = Stages(console), dict[str, Any]()
    try:
        for step in map(dict, steps):  # the last one is the result
            stages(f"question {step['done']} of {step['total']}")
    finally:
        stages.stop()
    return step


def _told(found: Mapping[str, Any]) -> str:
    precision, auroc = found["precision"], found["auroc"]
    lines = [
        f"{found['knowledge']}: the minimum score is now {found['min_score']:.3f}",
        f"  precision  {precision['value']:.2f} (95 % interval {precision['low']:.2f} to {precision['high']:.2f})",
        f"  answered   {found['answered']:.0%} of {found['covered']} questions that the documents cover",
        f"  refused    {found['refused']:.0%} of {found['uncovered']} that they do not",
        f"  AUROC      {auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f})",
    ]
    if found["generated"]:
        lines.append("The questions were made from the passages, so this is less reliable than with labelled ones")
        lines.append("(--questions): users ask in other words, and more of their questions may be refused.")
    return "\n".join(lines)


class Stages:
    """Shows the current stage with a clock on a terminal, and one line per stage and ten seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._printed = time.monotonic()
        self._status: Status | None = console.status("starting") if console.is_terminal else None
        if self._status is not None:
            self._status.start()

    def __call__(self, stage: str) -> None:
        """A stage has begun."""
        elapsed = f"{time.monotonic() - self._started:4.0f} s  "
        if self._status is not None:
            self._status.update(elapsed + stage)
        # Counting stages ("document 3 of 27") are shown now and then, all others once.
        elif " of " not in stage or time.monotonic() - self._printed > 2:
            self._printed = time.monotonic()
            self._console.print(elapsed + stage)

    def stop(self) -> None:
        """Take the clock off the terminal."""
        if self._status is not None:
            self._status.stop()
