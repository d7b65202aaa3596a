"""Every setting is documented, can be set by the variable its page names, and is used."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from serving.settings import SettingsError, describe, load_settings
from tests.house.settings_page import COMMAND, PAGE, page, table, variable
from tests.house.sources import product_files

SETTINGS = describe()


def unread(keys: list[str], sources: Mapping[str, str]) -> list[str]:
    """Settings whose attribute no module but the two that make them reads."""
    read = {
        node.attr
        for path, source in sources.items()
        if path not in ("serving/settings.py", "serving/sections.py")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    return [key for key in keys if key.rpartition(".")[2] not in read]


def test_the_page_is_current() -> None:
    assert PAGE.exists(), f"write docs/settings.md with: {COMMAND}"
    assert PAGE.read_text(encoding="utf-8") == page(), f"the settings have changed; write their page with: {COMMAND}"


def test_every_setting_says_what_it_does() -> None:
    assert [key for key, _, description in SETTINGS if len(description.split()) < 2] == []


def test_every_setting_is_used() -> None:
    assert unread([key for key, _, _ in SETTINGS], product_files()) == [], "delete the setting, or use it"


def test_an_unused_setting_is_found() -> None:
    sources = {
        "serving/settings.py": "settings.lost",
        "serving/app.py": "settings.server.port\nsettings.top_k = 3\n'lost'",
    }
    assert unread(["server.port", "models.*.top_k", "lost"], sources) == ["models.*.top_k", "lost"]


@pytest.mark.parametrize("key", [key for key, _, _ in SETTINGS if key != "home"])
def test_the_variable_on_the_page_sets_it(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = variable(key).replace("<NAME>", "SUPPORT")
    # No setting takes a list of lists, so each must refuse it by its own name.
    with pytest.raises(SettingsError, match=rf"(?m)^setting {re.escape(key.replace('*', 'support'))}"):
        load_settings(environ={name: "[[]]"})


def test_the_variable_on_the_page_sets_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={variable("home"): "elsewhere"}).home == Path("elsewhere")


def test_a_table_row() -> None:
    rows = table([("models.*.tags", "('a', 'b')", "This | that."), ("engine.url", "", "Where.")]).splitlines()
    assert rows[2] == '| `models.*.tags` | `["a", "b"]` | `BREAKEVEN_MODELS__<NAME>__TAGS` | This \\| that. |'
    assert rows[3] == "| `engine.url` | not set | `BREAKEVEN_ENGINE__URL` | Where. |"
