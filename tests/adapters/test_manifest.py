"""The manifest survives its file unchanged, refuses what it does not know, and ties an adapter to its base model."""

import json
from pathlib import Path

import pytest

from adapters.errors import MalformedManifest, MissingBase, WrongBase
from adapters.manifest import BaseModel, Manifest, base_fingerprint
from tests.adapters.conftest import MakeAdapter, sign


@pytest.fixture
def manifest(make_adapter: MakeAdapter) -> Manifest:
    return sign(make_adapter())


def test_round_trip(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"version": "0123"}, "version"),
        ({"version": "../../../../a"}, "version"),
        ({"base_sha256": "A" * 64}, "base_sha256"),
        ({"seed": "1"}, "seed"),
        ({"created": "yesterday"}, "created"),
        ({"scores": [{"name": "x", "value": 2.0, "n": 1, "low": 0.0, "high": 1.0}]}, "scores.0.value"),
    ],
)
def test_a_wrong_field_is_named(manifest: Manifest, change: dict[str, object], field: str) -> None:
    changed = json.dumps(json.loads(manifest.to_json()) | change)
    with pytest.raises(MalformedManifest, match=field):
        Manifest.from_json(changed)


def test_a_missing_field_and_no_json_are_malformed(manifest: Manifest) -> None:
    stated = json.loads(manifest.to_json())
    del stated["data_sha256"]
    with pytest.raises(MalformedManifest, match="data_sha256"):
        Manifest.from_json(json.dumps(stated))
    with pytest.raises(MalformedManifest):
        Manifest.from_json("{")


def test_a_folder_without_a_manifest_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedManifest, match="breakeven train"):
        Manifest.read(tmp_path)


def test_another_base_model_is_refused_by_content_not_by_name(manifest: Manifest) -> None:
    manifest.require_base(BaseModel("renamed", manifest.base_sha256))
    with pytest.raises(WrongBase, match=r"tiny.*other|other.*tiny"):
        manifest.require_base(BaseModel("other", "c" * 64))


def test_a_base_is_what_its_origin_says(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "origin.json").write_text(json.dumps({"name": "origin", "sha256": "d" * 64}))
    assert base_fingerprint(tmp_path) == BaseModel("origin", "d" * 64)
    (tmp_path / "origin.json").write_text('{"name": "origin"}')
    with pytest.raises(MissingBase, match=r"origin\.json"):
        base_fingerprint(tmp_path)


def test_without_an_origin_every_weight_file_counts(tmp_path: Path) -> None:
    with pytest.raises(MissingBase):
        base_fingerprint(tmp_path)
    seen = set()
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(b"weights")
        seen.add(base_fingerprint(tmp_path).sha256)
    (tmp_path / "model-1.safetensors").write_bytes(b"Weights")
    seen.add(base_fingerprint(tmp_path).sha256)
    (tmp_path / "tokenizer.json").write_bytes(b"not weights")
    seen.add(base_fingerprint(tmp_path).sha256)
    assert len(seen) == 3
    assert base_fingerprint(tmp_path).name == tmp_path.name
