"""docs/scale-plan.md says what the figures and the simulation say, and says so where there are none."""

import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.errors import ModelError, ResultsError
from benchmarks.prices import ApiPrice, GpuPrice, load_prices
from benchmarks.scale_plan.__main__ import PAGE, material_of, written
from benchmarks.scale_plan.installed import MANIFESTS, installed
from benchmarks.scale_plan.measured import RESULTS, ROOT, Measured, measured
from benchmarks.scale_plan.page import COMMAND, GPUS, HOSTED, MISSING, Material, page
from benchmarks.scale_plan.scenarios import check, loss
from benchmarks.scale_plan.sizes import VOLUMES, ceilings, days_until_full, invert, sizes

BOOK = load_prices()


@pytest.fixture(scope="module")
def material() -> Material:
    return material_of()


def test_the_page_and_the_picture_are_current(material: Material) -> None:
    for name, text in written(material).items():
        path = PAGE.with_name(name)
        assert path.exists(), f"write it with: {COMMAND}"
        assert path.read_text(encoding="utf-8") == text, f"figures or manifests have changed; run: {COMMAND} --page"


def test_figures_are_written_out_and_prices_have_their_dates(material: Material) -> None:
    text = page(material)
    assert re.search(r"\de[+-]\d", text) is None
    prices: list[GpuPrice | ApiPrice] = [*map(BOOK.gpu, GPUS), *map(BOOK.api, HOSTED)]
    for each in prices:
        assert f"`{each.id}` {each.as_of}" in " ".join(text.split())


def test_the_answers_are_those_of_the_code(material: Material) -> None:
    """Two groups again, the quick ones: if they differ, so may all others."""
    engine = material.found.engine
    assert engine is not None
    again = {"check": check(engine, print), "loss": loss(engine, float(material.found.ready_s.value), print)}
    for group, rows in again.items():
        assert json.loads(json.dumps(rows)) == material.runs[group], f"the simulation has changed; run: {COMMAND}"


def test_what_is_not_measured_is_said(material: Material) -> None:
    bare = replace(material, found=replace(material.found, gpu=None, ledger=None))
    text = page(bare)
    assert f"| A GPU replica's rate and demand | {MISSING} |" in text
    assert f"| PostgreSQL, a request in the ledger | {MISSING} |" in text
    assert "| PostgreSQL, growth a month (and its log) | " + MISSING in text
    assert "No GPU has been measured" in text


def test_a_gpu_that_was_measured_is_what_the_plan_is_made_of(tmp_path: Path) -> None:
    found = with_gpu(tmp_path)
    assert found.gpu is not None
    assert found.engine is found.gpu
    assert found.gpu.price.id == "h200"
    assert found.gpu.demand.slots == 256
    text = page(Material(found, installed(), BOOK, material_of().runs))
    assert "Engines (GPU replicas)" in text
    assert "No GPU has been measured" not in text


def with_gpu(folder: Path) -> Measured:
    """The results, and those of the CPU again as if a GPU had made them."""
    results = folder / "results"
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("*.md"))
    text = gzip.decompress((RESULTS / "experiments" / "cpu-small.jsonl.gz").read_bytes()).decode()
    first, _, rest = text.partition("\n")
    head = json.loads(first)
    head["origin"]["gpus"] = [{"name": "NVIDIA H200", "memory_gib": 141.0, "driver": "made up"}]
    head["origin"]["packages"] = {"vllm": "0.32.0"}
    (results / "gpu").mkdir(exist_ok=True)
    for old in (results / "gpu").glob("*.jsonl*"):
        old.unlink()
    (results / "gpu" / "made-up.jsonl").write_text(json.dumps(head) + "\n" + rest)
    return measured(BOOK, results)


def test_a_damaged_results_file_is_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    (results / "gateway" / "gateway.json").write_text("{")
    with pytest.raises(ResultsError, match="results is missing or damaged"):
        measured(BOOK, results)


def test_sizes_keep_the_peak_and_a_spare(material: Material) -> None:
    engine = material.found.engine
    assert engine is not None
    for queries in VOLUMES:
        planned = sizes(queries, engine, material.found, material.installed, BOOK.cpu)
        assert (planned.engines - 1) * engine.rate.queries_per_s >= planned.peak_per_s
        assert (planned.engines - 2) * engine.rate.queries_per_s < planned.peak_per_s or planned.engines == 2
        assert planned.mean_per_s * 730 * 3600 == pytest.approx(queries)


def test_the_weakest_part_is_the_first(material: Material) -> None:
    engine = material.found.engine
    assert engine is not None
    found = ceilings(engine, material.found, material.installed)
    assert [each.per_s for each in found] == sorted(each.per_s for each in found)
    more = ceilings(engine, material.found, replace(material.installed, engines=1000))
    assert found[0].part == "engines"
    assert more[0].part != "engines"


def test_too_few_connections_are_a_ceiling(material: Material) -> None:
    engine = material.found.engine
    assert engine is not None
    few, many = (replace(material.installed, connections=count) for count in (100, 1000))
    parts = [{each.part: each.per_s for each in ceilings(engine, material.found, one)} for one in (few, many)]
    assert parts[0]["PostgreSQL's connections"] == pytest.approx(parts[0]["gateways"] * 2 / 8)
    assert "PostgreSQL's connections" not in parts[1]


def test_the_database_takes_all_gateways_and_the_count_is_that_of_the_pools() -> None:
    found = installed()
    patches = (ROOT / "k8s" / "components" / "gateway-replicas" / "kustomization.yaml").read_text()
    (surge,) = map(int, re.findall(r"maxSurge: (\d+)", patches))
    # In a rollout those that end are there as well as those that begin. PostgreSQL keeps three for its superuser.
    gateways = found.gateways + 2 * surge
    assert found.connections - 3 >= gateways * found.connections_per_gateway
    pools = (
        ("retrieval/postgres.py", r"_MOST_CONNECTIONS = (\d+)"),
        ("serving/budgets/shared.py", r"max_size=(\d+)"),
        ("serving/database/postgres.py", r"_MOST_CONNECTIONS = (\d+)"),
    )
    written_there = [int(each) for name, size in pools for each in re.findall(size, (ROOT / name).read_text())]
    assert len(written_there) == 3
    # The ledger's writer and reader, the keys' follower, and the connection whose locks are the records' turns.
    assert found.connections_per_gateway == sum(written_there) + 4


def test_ten_times_the_volume_fills_the_disk_in_a_tenth_of_the_time(material: Material) -> None:
    one, ten = (days_until_full(count, material.found, material.installed) for count in (10**7, 10**8))
    assert one is not None
    assert ten is not None
    assert one == pytest.approx(10 * ten)


def test_the_inversion_is_the_hosted_bill_spent_on_gpus() -> None:
    found = invert(10**9, BOOK.gpu("a100-80gb"), BOOK.api("gpt-6-luna"))
    assert found.hosted_usd == 10**9 * (1400 * BOOK.api("gpt-6-luna").input_usd_per_mtok
                                        + 250 * BOOK.api("gpt-6-luna").output_usd_per_mtok) / 10**6  # fmt: skip
    usd = found.gpus * BOOK.gpu("a100-80gb").usd_per_hour * 730
    assert usd <= found.hosted_usd < usd + BOOK.gpu("a100-80gb").usd_per_hour * 730
    assert invert(10**6, BOOK.gpu("h200"), BOOK.api("gpt-6-luna")).per_s is None


def test_the_manifests_are_read_and_not_repeated(tmp_path: Path) -> None:
    found = installed()
    assert found.engines >= 2
    shutil.copytree(MANIFESTS, tmp_path / "k8s")
    keda, database = (tmp_path / "k8s" / "components" / name for name in ("keda/engine.yaml", "postgres/postgres.yaml"))
    keda.write_text(re.sub(r"maxReplicaCount: \d+", "maxReplicaCount: 77", keda.read_text()))
    text = re.sub(r"storage: 20Gi", "storage: 2Ti", database.read_text())
    database.write_text(re.sub(r"max_connections=\d+", "max_connections=555", text))
    changed = installed(tmp_path / "k8s")
    assert (changed.engines, changed.database_gib) == (77, 2048)
    assert changed.connections in (100, 555)
    keda.unlink()
    with pytest.raises(ModelError, match="not those that the plan knows"):
        installed(tmp_path / "k8s")
