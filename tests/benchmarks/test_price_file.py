"""The price file: right against a second source, right on worked sums, and refused when a row is wrong."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from genai_prices import Usage, calc_price

from benchmarks.errors import PriceError
from benchmarks.prices import SHIPPED, ApiPrice, PriceBook, load_prices

MILLION = 1_000_000
API_IDS = [price.id for price in load_prices().api_prices]
# Fine-tuned models carry their owner's name there.
THEIR_NAMES = {
    "ft:gpt-4o-mini": "ft:gpt-4o-mini-2024-07-18:anyone::any",
    "ft:gpt-4o": "ft:gpt-4o-2024-08-06:anyone::any",
}


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return load_prices()


def query_usd(price: ApiPrice, tokens_in: int, tokens_out: int) -> Decimal:
    return (tokens_in * price.input_usd_per_mtok + tokens_out * price.output_usd_per_mtok) / MILLION


@pytest.mark.parametrize("model_id", API_IDS)
def test_api_rows_agree_with_genai_prices(book: PriceBook, model_id: str) -> None:
    """Priced on the row's own date and with its provider, so neither a later change nor a reseller can match."""
    price = book.api(model_id)
    on = datetime.fromisoformat(price.as_of).replace(tzinfo=UTC)

    def theirs(usage: Usage) -> Decimal:
        name = THEIR_NAMES.get(model_id, model_id)
        found = calc_price(usage, name, provider_id=price.provider, genai_request_timestamp=on)
        assert found.provider.id == price.provider
        return found.total_price

    assert theirs(Usage(input_tokens=1400, output_tokens=250)) == query_usd(price, 1400, 250)
    cached = theirs(Usage(input_tokens=10_000, cache_read_tokens=10_000))
    assert cached == 10_000 * price.cached_input_usd_per_mtok / MILLION


@pytest.mark.parametrize("price_id", ["text-embedding-3-small", "text-embedding-ada-002"])
def test_embedding_rows_agree_with_genai_prices(book: PriceBook, price_id: str) -> None:
    price = book.unit(price_id)
    on = datetime.fromisoformat(price.as_of).replace(tzinfo=UTC)
    theirs = calc_price(
        Usage(input_tokens=MILLION), price_id, provider_id=price.provider, genai_request_timestamp=on
    ).total_price
    assert (price.usd, price.per) == (theirs, "mtok_embedded")


def test_announced_price_change_is_a_real_one(book: PriceBook) -> None:
    """The introductory price of gemini-3.8-flash ends on the row's deprecates_on, and not a day sooner."""
    price = book.api("gemini-3.8-flash")
    assert price.deprecates_on is not None
    ends = datetime.fromisoformat(price.deprecates_on).replace(tzinfo=UTC)
    ask = Usage(input_tokens=1400, output_tokens=250)

    def theirs(on: datetime) -> Decimal:
        return calc_price(ask, price.id, provider_id=price.provider, genai_request_timestamp=on).total_price

    assert theirs(ends.replace(year=ends.year - 1, month=12, day=31)) == query_usd(price, 1400, 250)
    assert theirs(ends) == 2 * query_usd(price, 1400, 250)


@pytest.mark.parametrize(
    ("model_id", "usd"), [("gpt-4o-mini", "0.00036"), ("claude-3-5-haiku", "0.00212"), ("gpt-4o", "0.0060")]
)
def test_worked_anchors(book: PriceBook, model_id: str, usd: str) -> None:
    assert query_usd(book.api(model_id), 1400, 250) == Decimal(usd)


@pytest.mark.parametrize(
    ("device", "row"),
    [
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
    ],
)
def test_a_detected_gpu_finds_its_row(book: PriceBook, device: str, row: str) -> None:
    assert book.gpu_for(device).id == row


@pytest.mark.parametrize(
    "device",
    ["NVIDIA A10", "NVIDIA L40S", "NVIDIA A100-SXM4-40GB", "NVIDIA H200 MIG 1g.18gb", "NVIDIA GH200 480GB", ""],
)
def test_another_gpu_is_not_priced_as_its_neighbour(book: PriceBook, device: str) -> None:
    with pytest.raises(PriceError, match=r"cost\.usd_per_hour"):
        book.gpu_for(device)


def test_the_machine_without_a_gpu_is_an_assumption(book: PriceBook) -> None:
    assert book.cpu.usd_per_hour == Decimal("0.10")
    assert book.cpu.basis == "assumed"


def test_unknown_model_names_the_nearest(book: PriceBook) -> None:
    with pytest.raises(PriceError, match="'gpt4o-mini'; the nearest is 'gpt-4o-mini'"):
        book.api("gpt4o-mini")


def write(path: Path, *, change: dict[str, object], row_id: str = "gpt-4o") -> Path:
    """The shipped file with one row changed; a value of None removes the key."""
    rows = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    row = next(row for row in rows if row["id"] == row_id)
    row.update(change)
    for key in [key for key, value in change.items() if value is None]:
        del row[key]
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_usd_per_mtok": 2.5}, "input_usd_per_mtok must be a quoted amount"),
        ({"output_usd_per_mtok": "ten"}, "output_usd_per_mtok must be a quoted amount"),
        ({"output_usd_per_mtok": "-1"}, "output_usd_per_mtok must be a quoted amount"),
        ({"output_usd_per_mtok": "NaN"}, "output_usd_per_mtok must be a quoted amount"),
        ({"usd_per_hour": "1"}, "unknown key 'usd_per_hour'"),
        ({"source": None}, "source is missing"),
        ({"source": " "}, "must say where the price comes from"),
        ({"as_of": "June"}, "as_of is a date"),
        ({"kind": "tpu"}, "kind must be one of api, unit, gpu, cpu"),
        ({"successor": "gpt-9"}, "successor must be the id of another api row"),
        ({"successor": "gpt-4o"}, "successor must be the id of another api row"),
        ({"basis": "guessed"}, "basis must be one of quoted, assumed"),
    ],
)
def test_a_wrong_row_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(PriceError, match=f"'gpt-4o'.*{message}"):
        load_prices(write(tmp_path / "prices.yaml", change=change))


def test_a_row_may_not_appear_twice(tmp_path: Path) -> None:
    with pytest.raises(PriceError, match="'gpt-4o' appears twice"):
        load_prices(write(tmp_path / "prices.yaml", change={"id": "gpt-4o"}, row_id="gpt-4o-mini"))


def test_a_missing_or_broken_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("- id: [", encoding="utf-8")
    for name in ("absent.yaml", "broken.yaml"):
        with pytest.raises(PriceError) as caught:
            load_prices(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
