"""Options in groups: a command takes dataclasses of options, and its help shows each of them as a panel."""

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer wants it: a parameter that is a dataclass gives way to its fields, each annotated with its
    `typer.Option`. The dataclass's docstring is the heading."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters += _spread(groups[name]) if name in groups else [parameter]

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()
        }
        command(**made, **given)

    plain = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]  # what inspect looks at first
    run.__annotations__ = {each.name: each.annotation for each in plain}
    return run


def _spread(kind: Any) -> Iterator[inspect.Parameter]:
    for field in fields(kind):
        option = copy.copy(field.type.__metadata__[0])  # type: ignore[union-attr]  # an Annotated, as the docstring says
        option.rich_help_panel = inspect.getdoc(kind)
        annotation = copy.copy(field.type)
        annotation.__metadata__ = (option,)  # type: ignore[union-attr]  # the same
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
