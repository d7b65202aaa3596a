"""What the manifests tell the gateway and vLLM: the gateway accepts it, and the two agree."""

import shlex
from datetime import date
from pathlib import Path

import pytest

from adapters.registry import Registry
from serving.app import check_bind
from serving.auth import open_keys
from serving.engine.arguments import server_command
from serving.models import build_catalogue
from serving.sections import Settings
from serving.settings import SettingsError, load_settings
from tests.k8s.manifests import BASE, ENGINE_KEY, Manifest, containers, environment, pod


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    for container in containers(pod(manifests, "gateway")).values():
        variables = environment(container)
        given = [name for name in variables if name.startswith("BREAKEVEN_")]
        assert "BREAKEVEN_HOME" in given
        # An unknown name raises.
        load_settings(BASE / "breakeven.yaml", variables)


def test_the_price_comes_with_its_source_and_date(settings: Settings) -> None:
    assert settings.cost.usd_per_hour is not None
    assert settings.cost.usd_per_hour > 0
    assert settings.cost.source
    assert settings.cost.as_of is not None
    assert settings.cost.as_of <= date.today()


def test_it_listens_beyond_loopback_and_so_needs_a_key_first(settings: Settings, tmp_path: Path) -> None:
    keys = open_keys(tmp_path)
    with pytest.raises(SettingsError, match="no API key exists"):
        check_bind(settings.server, keys)
    keys.create("local", ["everyone"], "operator")
    check_bind(settings.server, keys)


def test_every_served_model_fits_the_engine(settings: Settings, tmp_path: Path) -> None:
    assert settings.engine.model is not None
    catalogue = build_catalogue(settings, settings.engine.model, Registry(tmp_path), 0)
    assert catalogue.left_out == ()
    assert catalogue.adapters == ()
    assert {catalogue.resolve(name).settings.knowledge for name in catalogue.names} == {None, *settings.knowledge}


def test_the_engine_gets_the_arguments_of_our_own_child(settings: Settings, manifests: list[Manifest]) -> None:
    container = containers(pod(manifests, "engine"))["vllm"]
    assert settings.engine.model is not None
    engine = settings.engine
    _, *command = server_command(engine, settings.engine.model, settings.engine.model, (), 8000)
    given = [*container["command"][1:], *(word for each in container["args"] for word in each.split("=", 1))]
    # Loopback is for a child; the time to drain is of no use to one, whose gateway has drained already.
    ours = [word for word in given if word not in ("--shutdown-timeout", "45")]
    expected = ["0.0.0.0" if word == "127.0.0.1" else word for word in command]  # noqa: S104  # compared, not bound
    assert _options(ours) == _options(expected), shlex.join(expected)


def test_gateway_and_engine_share_the_key(settings: Settings, manifests: list[Manifest]) -> None:
    assert environment(containers(pod(manifests, "engine"))["vllm"])["VLLM_API_KEY"] == ENGINE_KEY
    assert settings.engine.api_key == ENGINE_KEY


def _options(words: list[str]) -> list[list[str]]:
    """Options with their values, in any order."""
    found: list[list[str]] = [[]]
    for word in words:
        if word.startswith("-"):
            found.append([])
        found[-1].append(word)
    return sorted(found)
