"""Served models: what is offered with which base model, and what is left out with a reason."""

from pathlib import Path

import pytest

from adapters.registry import Registry
from serving.errors import UnknownModel
from serving.models import base_name, build_catalogue
from serving.sections import Settings

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "support" / "adapter"
BASE = "smollm2-135m-instruct"
MODELS = {
    "smollm2": {"base": BASE},
    "support": {"adapter": "support", "top_k": 2, "instructions": "Be brief."},
    "handbook": {"knowledge": "handbook", "min_score": -0.5},
    "missing": {"adapter": "nobody"},
}
SETTINGS = Settings.model_validate({"models": MODELS, "retrieval": {"top_k": 7, "min_score": 0.3}})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path)
    registry.install(SAMPLE)
    return registry


def test_with_its_own_base_everything_is_served(registry: Registry) -> None:
    catalogue = build_catalogue(SETTINGS, BASE, registry, 1)
    assert catalogue.names == ("smollm2", "support", "handbook")
    support = catalogue.resolve("support")
    assert support.engine_model.startswith("support@")
    assert [adapter.engine_name for adapter in catalogue.adapters] == [support.engine_model]
    assert catalogue.resolve("handbook").engine_model == BASE
    assert len(catalogue.left_out) == 1
    assert "nobody" in catalogue.left_out[0]


def test_another_base_leaves_out_what_belongs_to_the_first(registry: Registry) -> None:
    catalogue = build_catalogue(SETTINGS, "Qwen/Qwen3-8B", registry, 1)
    assert catalogue.names == ("handbook", "Qwen/Qwen3-8B")
    for name, line in zip(("smollm2", "support", "missing"), catalogue.left_out, strict=True):
        assert line.startswith(f"{name} is left out: ")
    assert not catalogue.adapters


def test_overrides_and_defaults(registry: Registry) -> None:
    catalogue = build_catalogue(SETTINGS, BASE, registry, 1)
    support, handbook = catalogue.resolve("support"), catalogue.resolve("handbook")
    assert (support.top_k, support.min_score) == (2, None)  # a calibration comes before the setting
    assert (handbook.top_k, handbook.min_score) == (7, -0.5)
    assert (support.instructions, handbook.instructions) == ("Be brief.", SETTINGS.retrieval.instructions)


def test_an_unknown_name_lists_the_known_ones(registry: Registry) -> None:
    with pytest.raises(UnknownModel, match="smollm2, support, handbook"):
        build_catalogue(SETTINGS, BASE, registry, 1).resolve("gpt-4o")


def test_a_path_is_named_by_its_last_part(tmp_path: Path) -> None:
    assert base_name(str(tmp_path)) == tmp_path.name
    assert base_name("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
