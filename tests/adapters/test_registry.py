"""What may enter the registry, what a name means, and that damage is noticed."""

import json
import pickle
from pathlib import Path

import pytest

from adapters.errors import AdapterError, MalformedManifest, TamperedAdapter, UnknownAdapter, UnsafeAdapter
from adapters.manifest import CONFIG, MANIFEST, WEIGHTS, content_version
from adapters.registry import Registry
from tests.adapters.conftest import MakeAdapter, sign


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def leftovers(registry: Registry) -> list[str]:
    return [path.name for path in registry.root.glob(".*")] if registry.root.exists() else []


def test_an_installed_adapter_is_found_by_name_by_version_and_by_alias(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    source = make_adapter()
    installed = registry.install(source)
    assert installed.version == content_version(source)
    assert installed.engine_name == f"demo@{installed.version}"
    assert installed.rank == 4
    assert installed.path == registry.root / "demo" / installed.version
    for reference in ("demo", installed.engine_name, "demo@prod"):
        assert registry.resolve(reference) == installed
    assert registry.names() == ("demo",)
    assert registry.versions("demo") == (installed.version,)
    assert leftovers(registry) == []


def test_installing_twice_changes_nothing(registry: Registry, make_adapter: MakeAdapter) -> None:
    source = make_adapter()
    first = registry.install(source)
    before = {path: path.stat().st_mtime_ns for path in registry.root.rglob("*")}
    assert registry.install(source) == first
    assert {path: path.stat().st_mtime_ns for path in registry.root.rglob("*")} == before


def test_the_first_version_stays_prod_until_another_is_promoted(registry: Registry, make_adapter: MakeAdapter) -> None:
    first = registry.install(make_adapter("one", seed=1))
    second = registry.install(make_adapter("two", seed=2))
    assert first.version != second.version
    assert registry.resolve("demo") == first
    registry.promote("demo", second.version, alias="canary")
    assert registry.resolve("demo") == first
    assert registry.resolve("demo@canary") == second
    registry.promote("demo", second.version)
    assert registry.resolve("demo") == second
    assert registry.aliases("demo") == {"prod": second.version, "canary": second.version}


def test_the_installed_copy_does_not_depend_on_the_source(registry: Registry, make_adapter: MakeAdapter) -> None:
    source = make_adapter()
    installed = registry.install(source)
    (source / WEIGHTS).write_bytes(b"gone")
    assert registry.resolve("demo") == installed


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "other",
        "demo@",
        "demo@000000000000",
        "demo@canary",
        "@",
        "demo@../demo",
        "../demo",
        "/etc",
        "demo/..",
        "a@b@c",
    ],
)
def test_an_unknown_reference_says_what_is_installed(
    registry: Registry, make_adapter: MakeAdapter, reference: str
) -> None:
    installed = registry.install(make_adapter())
    with pytest.raises(UnknownAdapter, match=installed.engine_name):
        registry.resolve(reference)


def test_an_empty_registry_says_how_to_fill_it(registry: Registry) -> None:
    with pytest.raises(UnknownAdapter, match="breakeven train"):
        registry.resolve("demo")
    assert registry.names() == ()


def test_a_version_cannot_reach_outside_the_registry(registry: Registry, make_adapter: MakeAdapter) -> None:
    outside = make_adapter("outside")
    registry.install(make_adapter("inside"))
    for reference in (f"demo@../../{outside.name}", f"../{outside.name}", f"demo@{outside}"):
        with pytest.raises(UnknownAdapter):
            registry.resolve(reference)
    for version in (f"../../{outside.name}", str(outside), "."):
        with pytest.raises(UnknownAdapter):
            registry.promote("demo", version)


@pytest.mark.parametrize("alias", ["", "../prod", "Prod", "0123456789ab", "a/b"])
def test_an_alias_cannot_be_a_path_or_look_like_a_version(
    registry: Registry, make_adapter: MakeAdapter, alias: str
) -> None:
    installed = registry.install(make_adapter())
    with pytest.raises(UnsafeAdapter):
        registry.promote("demo", installed.version, alias=alias)


@pytest.mark.parametrize("name", ["../up", "Demo", "-demo", "a" * 64, "de/mo", "de mo", "demo\n", ""])
def test_a_bad_name_is_refused(registry: Registry, make_adapter: MakeAdapter, name: str) -> None:
    source = make_adapter()
    stated = json.loads((source / MANIFEST).read_text())
    (source / MANIFEST).write_text(json.dumps(stated | {"name": name}))
    with pytest.raises(MalformedManifest, match="name"):
        registry.install(source)
    assert leftovers(registry) == []


class _Canary:
    """Leaves a file behind if anything ever unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("file", ["adapter_model.bin", "adapter_model.pt", "weights.pkl", "README.md", "nested"])
def test_an_unexpected_file_is_refused(
    registry: Registry, make_adapter: MakeAdapter, tmp_path: Path, file: str
) -> None:
    source = make_adapter()
    trace = tmp_path / "unpickled"
    if file == "nested":
        (source / file).mkdir()
    else:
        (source / file).write_bytes(pickle.dumps(_Canary(trace)))
    with pytest.raises(UnsafeAdapter, match=file):
        registry.install(source)
    assert not trace.exists()
    assert registry.names() == ()


def test_a_pickle_under_the_name_of_the_weights_is_refused(
    registry: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    source = make_adapter()
    trace = tmp_path / "unpickled"
    (source / WEIGHTS).write_bytes(pickle.dumps(_Canary(trace)))
    sign(source)
    with pytest.raises(UnsafeAdapter, match="not a safetensors file"):
        registry.install(source)
    assert not trace.exists()


def test_truncated_weights_are_refused_even_when_signed(registry: Registry, make_adapter: MakeAdapter) -> None:
    source = make_adapter()
    (source / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:-8])
    sign(source)
    with pytest.raises(UnsafeAdapter):
        registry.install(source)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG, MANIFEST])
def test_a_link_is_refused(registry: Registry, make_adapter: MakeAdapter, tmp_path: Path, file: str) -> None:
    source = make_adapter()
    elsewhere = (source / file).rename(tmp_path / "elsewhere")
    (source / file).symlink_to(elsewhere)
    with pytest.raises(UnsafeAdapter, match="not a plain file"):
        registry.install(source)


def test_a_link_to_a_folder_is_refused(registry: Registry, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(make_adapter())
    with pytest.raises(UnsafeAdapter):
        registry.install(link)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG, MANIFEST])
def test_a_missing_file_is_refused(registry: Registry, make_adapter: MakeAdapter, file: str) -> None:
    source = make_adapter()
    (source / file).unlink()
    with pytest.raises(UnsafeAdapter, match=file):
        registry.install(source)


@pytest.mark.parametrize(
    "config", ["[]", "{}", "no json", '{"peft_type": "LORA", "r": 0}', '{"peft_type": "IA3", "r": 4}']
)
def test_a_config_that_is_not_lora_is_refused(registry: Registry, make_adapter: MakeAdapter, config: str) -> None:
    source = make_adapter()
    (source / CONFIG).write_text(config)
    sign(source)
    with pytest.raises(UnsafeAdapter, match=CONFIG):
        registry.install(source)


def test_a_source_that_does_not_match_its_manifest_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    source, other = make_adapter("one", seed=1), make_adapter("two", seed=2)
    (source / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(TamperedAdapter):
        registry.install(source)
    assert registry.names() == ()


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_one_flipped_byte_after_installing_is_noticed(registry: Registry, make_adapter: MakeAdapter, file: str) -> None:
    path = registry.install(make_adapter()).path / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(TamperedAdapter, match="install the adapter again"):
        registry.resolve("demo")


def test_a_version_that_was_swapped_for_another_good_one_is_noticed(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    first = registry.install(make_adapter("one", seed=1))
    second = registry.install(make_adapter("two", seed=2))
    for file in (WEIGHTS, CONFIG, MANIFEST):
        (first.path / file).write_bytes((second.path / file).read_bytes())
    with pytest.raises(TamperedAdapter, match=second.version):
        registry.resolve(first.engine_name)


def test_a_file_added_after_installing_is_noticed(registry: Registry, make_adapter: MakeAdapter) -> None:
    installed = registry.install(make_adapter())
    (installed.path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(TamperedAdapter, match=r"adapter_model\.bin"):
        registry.resolve("demo")


def test_damaged_aliases_are_named(registry: Registry, make_adapter: MakeAdapter) -> None:
    installed = registry.install(make_adapter())
    for damage in ("{", "[]", '{"prod": "../up"}', '{"prod": 1}'):
        (registry.root / "demo" / "aliases.json").write_text(damage)
        with pytest.raises(TamperedAdapter, match="promote a version again"):
            registry.resolve("demo")
    assert registry.resolve(installed.engine_name) == installed


def test_a_source_that_is_not_there_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="is not a folder"):
        registry.install(tmp_path / "nothing")
