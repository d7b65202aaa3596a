"""Writes docs/settings.md from the settings themselves: `python -m tests.house.settings_page`."""

import ast
import json
from collections.abc import Iterable

from serving.settings import PREFIX, describe
from tests.house.sources import ROOT

PAGE = ROOT / "docs" / "settings.md"
COMMAND = "python -m tests.house.settings_page"

_INTRODUCTION = f"""# Settings

Made from `serving/sections.py` by `{COMMAND}`; a test compares the two.

Settings come from a YAML file and from the environment; a variable wins over the file. The file is `--config`, else
`BREAKEVEN_CONFIG`, else `breakeven.yaml` in the current directory if there is one. `engine.max_model_len` is
`max_model_len` under `engine` in the file, and `BREAKEVEN_ENGINE__MAX_MODEL_LEN` in the environment, where the value is
read as YAML (`["a", "b"]` is a list). A key that does not exist stops the start. In a file, relative `adapters` and
`knowledge.*.paths` start at the file's folder.

`*` is a name of your choice: `models.support.top_k`, or `BREAKEVEN_MODELS__SUPPORT__TOP_K` (in a variable, names are
read in lower case).

Two variables are no settings: `BREAKEVEN_CONFIG`, the file, and `BREAKEVEN_API_KEY`, the key that the command line
sends to a running gateway.
"""


def variable(key: str) -> str:
    """The environment variable of a dotted key."""
    return PREFIX + key.upper().replace(".", "__").replace("*", "<NAME>")


def page() -> str:
    """The whole page as Markdown."""
    return f"{_INTRODUCTION}\n{table(describe())}"


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Rows of (key, default, description) as a Markdown table."""
    lines = ["| Setting | Default | Environment variable | What it does |", "|---|---|---|---|"]
    for key, default, description in rows:
        cells = (f"`{key}`", _shown(default), f"`{variable(key)}`", description)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _shown(default: str) -> str:
    """A default as one would write it in the file."""
    if default.startswith("("):
        default = json.dumps(ast.literal_eval(default))
    return f"`{default}`" if default else "not set"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
