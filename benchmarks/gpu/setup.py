"""What every stage is given: the scale, the machine, where results go, and engines that consecutive stages share."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.errors import EndpointError
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.servers import Engine, Site
from benchmarks.gpu.weights import write_adapter, write_model
from benchmarks.load.arrivals import Closed, Load
from benchmarks.load.experiment import Experiment, Labels, experiment
from benchmarks.load.plan import LoadPlan, Target
from benchmarks.load.text import Text
from benchmarks.load.workload import Workload
from benchmarks.origin import Origin
from benchmarks.result_file import keep

MODEL = "llama-shape"


@dataclass
class Setup:
    """`base` is the converted SmolLM2 folder; `work` holds models, adapters and logs, which are not results."""

    scale: Scale
    machine: Site
    out: Path
    work: Path
    base: Path
    console: Console
    _stack: ExitStack = field(default_factory=ExitStack)
    _running: tuple[Engine, str] | None = None

    @property
    def model(self) -> Path:
        """The folder of the shape under test, without weights."""
        return write_model(self.work / f"{self.scale.name}-model", self.scale.model, self.base)

    @property
    def text(self) -> Text:
        """Text of exact length in the shape's tokens."""
        return Text.from_model(self.model)

    def shape_engine(self, adapters: int = 0, *extra: str) -> Engine:
        """The shape with dummy weights, and with so many adapters."""
        folder = self.work / f"{self.scale.name}-adapters"
        made = {
            f"adapter-{number}": write_adapter(folder / str(number), self.scale.model, self.scale.rank, number)
            for number in range(adapters)
        }
        length = ("--max-model-len", str(self.scale.max_model_len))
        arguments = ("--load-format", "dummy", *length, *self.scale.engine, *extra)
        return Engine(self.model, MODEL, made, self.scale.rank, arguments)

    def serving(self, engine: Engine) -> str:
        """The URL of this engine, started unless the stage before left it running."""
        if self._running is None or self._running[0] != engine:
            self.close()
            self.console.print(f"starting {engine.described()}", highlight=False)
            self._running = engine, self._stack.enter_context(self.machine.engine(engine))
        return self._running[1]

    def close(self) -> None:
        """Stops the engine, if one runs."""
        self._running = None
        self._stack.close()

    def plan(self, url: str, workload: Workload, load: Load, output_tokens: int, **changes: Any) -> LoadPlan:
        """A run of one shape: exact lengths, greedy to the last token."""
        warmup = load.concurrency if isinstance(load, Closed) else 4
        plan = LoadPlan(
            url=url,
            targets=(Target(MODEL),),
            workload=workload,
            load=load,
            duration_s=self.scale.run_s,
            max_tokens=output_tokens,
            ignore_eos=True,
            warmup=warmup,
        )
        return dataclasses.replace(plan, **changes)

    def labels(self, stage: str, engine: Engine, **more: str | int | float) -> Labels:
        """Of a run: what the file of another machine can be told by."""
        device = "gpu" if self.machine.gpu else "cpu"
        here: Labels = {"stage": stage, "scale": self.scale.name, "device": device, "gpus": 1}
        return {**here, "engine": engine.described(), **more}

    def result(self, stage: str) -> Path | None:
        """A stage's result file, if it has been made."""
        return next((path for path in self._names(stage) if path.is_file()), None)

    @contextmanager
    def recording(self, stage: str) -> Iterator[Experiment]:
        """The stage's results file; it is there under its name only once the stage is through."""
        final = self._names(stage)[0]
        partial = final.with_name(f"partial-{final.name}")
        partial.unlink(missing_ok=True)
        with experiment(partial, self.command(stage), self.console) as runs:
            yield runs
        partial.rename(final)

    def write(self, stage: str, document: dict[str, Any]) -> None:
        """A stage's result that is no load run, with its origin."""
        keep({**document, "origin": Origin.here(self.command(stage))}, self._names(stage)[1])

    def command(self, stage: str) -> str:
        """As anyone can repeat it."""
        device = "gpu" if self.machine.gpu else "cpu"
        return f"python -m benchmarks.gpu {stage} --scale {self.scale.name} --device {device}"

    def _names(self, stage: str) -> tuple[Path, Path]:
        return self.out / f"{stage}.jsonl.gz", self.out / f"{stage}.json"


def fitted(setup: Setup, url: str, tokens: int, make: Callable[[int], Workload]) -> Workload:
    """The workload that `make` makes for so many tokens of text, when with the chat template they are to be `tokens`.

    What the template adds depends on the messages, so one of them is sent and counted by the server.
    """
    plan = setup.plan(url, make(tokens), Closed(1), 1, duration_s=None, requests=1, warmup=0, metrics=())
    (row,) = Experiment(None, None).run(plan).rows
    if row.prompt_tokens is None:
        raise EndpointError(f"{url} answered {row.outcome} to a first request: {row.error}")
    return make(2 * tokens - row.prompt_tokens)
