"""Configuration: overlay, refusal of unknown keys, and paths that mean the file's own folder."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.settings import SettingsError, load_settings


def test_environment_overlays_the_file(tmp_path: Path) -> None:
    file = tmp_path / "breakeven.yaml"
    file.write_text("engine: {max_model_len: 2048, dtype: float16}\n")
    settings = load_settings(file, {"BREAKEVEN_ENGINE__MAX_MODEL_LEN": "4096", "BREAKEVEN_HOME": "/state"})
    assert settings.engine.max_model_len == 4096
    assert settings.engine.dtype == "float16"
    assert settings.home == Path("/state")


def test_command_line_wins() -> None:
    settings = load_settings(None, {"BREAKEVEN_SERVER__PORT": "9000"}, {"server.port": 9001, "server.host": None})
    assert (settings.server.port, settings.server.host) == (9001, "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("BREAKEVEN_ENGINE__MODLE", "engine.model"),
        ("BREAKEVEN_SERVER__PROT", "server.port"),
        ("BREAKEVEN_RETREIVAL__TOP_K", "retrieval"),
        ("BREAKEVEN_MODELS__A__KNOWLEGE", "models.a.knowledge"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(variable: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"did you mean {nearest}"):
        load_settings(None, {variable: "x"})


def test_text_in_a_variable_stays_text() -> None:
    variables = {
        "BREAKEVEN_COST__AS_OF": "2026-10-01",
        "BREAKEVEN_ENGINE__API_KEY": "123",
        "BREAKEVEN_ENGINE__MODEL": "*a",
    }
    settings = load_settings(None, {**variables, "BREAKEVEN_ENGINE__EXTRA_ARGS": "[--seed, '3']"})
    assert str(settings.cost.as_of) == "2026-10-01"
    assert (settings.engine.api_key, settings.engine.model) == ("123", "*a")
    assert settings.engine.extra_args == ("--seed", "3")
    with pytest.raises(SettingsError, match="BREAKEVEN_ENGINE__EXTRA_ARGS"):
        load_settings(None, {"BREAKEVEN_ENGINE__EXTRA_ARGS": "[--seed"})


def test_a_wrong_value_names_its_key() -> None:
    with pytest.raises(SettingsError, match=r"server\.port.*'many'"):
        load_settings(None, {"BREAKEVEN_SERVER__PORT": "many"})


def test_an_api_key_is_never_in_a_message() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"BREAKEVEN_ENGINE__API_KEY": "[sk-secret]"})
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "engine: 3\n"])
def test_a_broken_file_is_one_message(tmp_path: Path, text: str) -> None:
    file = tmp_path / "breakeven.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError):
        load_settings(file, {})


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(tmp_path / "none.yaml", {})


def test_relative_paths_mean_the_files_folder(tmp_path: Path) -> None:
    file = tmp_path / "breakeven.yaml"
    file.write_text("adapters: [a]\nknowledge: {books: {paths: [docs, /elsewhere]}}\n")
    settings = load_settings(file, {})
    assert settings.adapters == (tmp_path / "a",)
    assert settings.knowledge["books"].paths == (tmp_path / "docs", Path("/elsewhere"))


def test_sections_are_frozen() -> None:
    settings = load_settings(None, {})
    with pytest.raises(ValidationError):
        settings.server.port = 1
