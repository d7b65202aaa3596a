"""Options in groups reach the command as the dataclasses that it asked for."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from breakeven.options import grouped


@dataclass(frozen=True)
class Wish:
    """What is wished for"""

    name: Annotated[list[str], typer.Option(help="A name.")]
    size: Annotated[int, typer.Option("--how-large", help="A number.")] = 3


def test_groups_are_filled_and_shown() -> None:
    seen: list[tuple[Wish, bool]] = []

    @grouped
    def command(wish: Wish, loud: Annotated[bool, typer.Option(help="Say it.")] = False) -> None:
        """Do it."""
        seen.append((wish, loud))

    app = typer.Typer()
    app.command()(command)
    run = CliRunner()
    assert run.invoke(app, ["--name", "a", "--name", "b", "--loud"]).exit_code == 0
    assert run.invoke(app, ["--name", "c", "--how-large", "5"]).exit_code == 0
    assert seen == [(Wish(["a", "b"]), True), (Wish(["c"], 5), False)]
    assert run.invoke(app, []).exit_code == 2
    shown = run.invoke(app, ["--help"]).output
    assert "Do it." in shown and "What is wished for" in shown and "A number." in shown
