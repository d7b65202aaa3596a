"""The FOCUS export against what version 1.0 of the specification demands of each column, in our words."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from breakeven.main import command_line
from serving.accounting.engine_rates import EngineRates
from serving.accounting.ledger.focus import COLUMNS
from serving.accounting.ledger.sqlite import SqliteDatabase
from serving.accounting.ledger.statement import statement
from serving.accounting.record import Tokens
from tests.serving.books import Clock, Process

Row = Mapping[str, str]
NEW_MONTH = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Demand:
    """Of one column: its values, and when it may be null (an empty cell)."""

    fits: Callable[[str], bool]
    null: Callable[[Row], bool] = lambda _: False


def one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def text(value: str) -> bool:
    return bool(value.strip()) and value not in ("-", "Not Applicable", "null")


def number(value: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(E-?\d+)?", value) is not None


def price(value: str) -> bool:
    return number(value) and Decimal(value) >= 0


def moment(value: str) -> bool:
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value) is not None


def pairs(value: str) -> bool:
    held = json.loads(value)
    # Tags that a provider defines carry its prefix; no value is an object or an array.
    return all(key.startswith("breakeven:") and isinstance(held[key], str) for key in held)


def always(_: Row) -> bool:
    return True


def correction(row: Row) -> bool:
    return row["ChargeClass"] == "Correction"


def without(column: str) -> Callable[[Row], bool]:
    return lambda row: row[column] == ""


# "Usage" is the only charge category here: what the specification says of the others does not apply.
DEMANDS = {
    "AvailabilityZone": Demand(text, always),
    "BilledCost": Demand(number),
    "BillingAccountId": Demand(text),
    "BillingAccountName": Demand(text),
    "BillingCurrency": Demand(one_of("USD")),
    "BillingPeriodEnd": Demand(moment),
    "BillingPeriodStart": Demand(moment),
    "ChargeCategory": Demand(one_of("Usage")),
    "ChargeClass": Demand(one_of("Correction"), always),
    "ChargeDescription": Demand(text),
    "ChargeFrequency": Demand(one_of("One-Time", "Recurring", "Usage-Based")),
    "ChargePeriodEnd": Demand(moment),
    "ChargePeriodStart": Demand(moment),
    "CommitmentDiscountCategory": Demand(one_of("Spend", "Usage"), without("CommitmentDiscountId")),
    "CommitmentDiscountId": Demand(text, always),
    "CommitmentDiscountName": Demand(text, without("CommitmentDiscountId")),
    "CommitmentDiscountStatus": Demand(one_of("Used", "Unused"), without("CommitmentDiscountId")),
    "CommitmentDiscountType": Demand(text, without("CommitmentDiscountId")),
    "ConsumedQuantity": Demand(number, correction),
    "ConsumedUnit": Demand(one_of("Tokens", "Hours"), correction),
    "ContractedCost": Demand(number),
    "ContractedUnitPrice": Demand(price, correction),
    "EffectiveCost": Demand(number),
    "InvoiceIssuerName": Demand(text),
    "ListCost": Demand(number),
    "ListUnitPrice": Demand(price, correction),
    "PricingCategory": Demand(one_of("Standard", "Dynamic", "Committed", "Other"), correction),
    "PricingQuantity": Demand(number, correction),
    "PricingUnit": Demand(one_of("Hours"), correction),
    "ProviderName": Demand(text),
    "PublisherName": Demand(text),
    "RegionId": Demand(text, always),
    "RegionName": Demand(text, without("RegionId")),
    "ResourceId": Demand(text, always),
    "ResourceName": Demand(text, without("ResourceId")),
    "ResourceType": Demand(text, without("ResourceId")),
    "ServiceCategory": Demand(one_of("AI and Machine Learning")),
    "ServiceName": Demand(text),
    "SkuId": Demand(text, correction),
    "SkuPriceId": Demand(text, correction),
    "SubAccountId": Demand(text, always),
    "SubAccountName": Demand(text, without("SubAccountId")),
    "Tags": Demand(pairs),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with every kind of row, over the end of a month."""
    found = tmp_path_factory.mktemp("focus")
    day = Clock(NEW_MONTH - 65)
    first = Process(SqliteDatabase(found / "ledger.db"), day=day)
    first.ask(2.0, tenant="acme")
    first.wait(20)
    first.written()
    first.meter.rates = EngineRates(0.0, 0.001, 0.01)
    first.ask(2.0, tenant='o"hara, & sons')
    unresolved = first.job(model="-")
    unresolved.enter()
    first.wait(1)
    unresolved.end("error")
    running = first.job(tenant="late")
    running.enter()
    first.wait(30)
    first.written()
    first.wait(12)
    first.written()  # it runs over the end of the month
    running.end(tokens=Tokens(prompt=7, completion=7))
    first.wait(70)
    first.written()
    lost = first.job(tenant="gone")
    lost.enter()
    first.wait(3)
    first.written()
    first.kill()
    last = Process(SqliteDatabase(found / "ledger.db"), day=day)
    last.written()
    last.sink.close()
    return found


def exported(home: Path, *options: str) -> list[dict[str, str]]:
    words = ["ledger", "export", "--format", "focus", *options]
    done = CliRunner(env={"BREAKEVEN_HOME": str(home)}).invoke(command_line(words), words)
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.stdout)))


WHOLE, NOVEMBER = ("--until", "2027-01-01"), ("--until", "2026-12-01")
DECEMBER = ("--since", "2026-12-01", *WHOLE)


def test_the_columns_are_the_43_of_the_specification_with_our_own_behind_them() -> None:
    assert len(DEMANDS) == 43
    assert set(COLUMNS[:43]) == set(DEMANDS)
    assert all(re.fullmatch(r"x_[A-Z][A-Za-z]+", name) for name in COLUMNS[43:])


@pytest.mark.parametrize("window", [WHOLE, NOVEMBER, DECEMBER])
def test_every_value_is_as_demanded(home: Path, window: tuple[str, ...]) -> None:
    rows = exported(home, *window)
    assert len(rows) >= 3
    for row in rows:
        for name, demand in DEMANDS.items():
            fits = demand.null(row) if row[name] == "" else demand.fits(row[name])
            assert fits, (name, row[name], row["ChargeDescription"])


@pytest.mark.parametrize("window", [WHOLE, NOVEMBER, DECEMBER])
def test_columns_agree_with_each_other(home: Path, window: tuple[str, ...]) -> None:
    for row in exported(home, *window):
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["BillingPeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert row["ResourceId"] != row["ResourceName"] or not row["ResourceId"]
        assert (row["ResourceId"] == "") == (row["ResourceType"] == "") == (row["ResourceName"] == "")
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"] == row["ListCost"]
        priced = Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"])
        assert abs(priced - Decimal(row["ListCost"])) < Decimal("1e-9")
        # Less than nothing can only be taken back.
        negative = Decimal(row["PricingQuantity"]) < 0
        assert negative == (row["ChargeClass"] == "Correction")
        assert (Decimal(row["ConsumedQuantity"]) < 0) == (negative and row["ConsumedUnit"] == "Hours")


def test_months_add_up_to_the_bill_and_what_one_bills_too_early_the_next_takes_back(home: Path) -> None:
    months = [sum(Decimal(row["BilledCost"]) for row in exported(home, *window)) for window in (NOVEMBER, DECEMBER)]
    billed = statement(SqliteDatabase(home / "ledger.db"), 0.0, 1e12).billed_usd
    assert float(sum(months)) == pytest.approx(float(billed), rel=1e-3)
    assert [row for row in exported(home, *DECEMBER) if row["ChargeClass"] == "Correction"]


def test_a_request_says_whose_it_was_and_how_its_stages_are_known(home: Path) -> None:
    rows = exported(home, *WHOLE)
    (hara,) = [row for row in rows if row["SubAccountName"].startswith("o")]
    assert json.loads(hara["Tags"])["breakeven:prefill"] == "apportioned"
    assert float(hara["x_PrefillCost"]) > 0
    (gone,) = [row for row in rows if row["SubAccountId"] == "gone"]
    assert (gone["ConsumedUnit"], json.loads(gone["Tags"])["breakeven:outcome"]) == ("Hours", "lost")
    assert "3.60 USD per machine hour" in gone["ChargeDescription"]
