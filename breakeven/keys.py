"""`breakeven keys`: make, list, update and revoke API keys, straight where running gateways look for them."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Column, Table

from breakeven.console import Config, console, output
from serving.auth import EVERYONE, LOCAL_TENANT, KeyRefused, keys_of
from serving.settings import load_settings
from serving.sharing import Budget, RateLimits

app = typer.Typer(help="Make, list, update and revoke API keys.", no_args_is_help=True)
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(help="What it may spend in US dollars: `5/day`, `100/month`, both, or `none`.", metavar="USD/WINDOW"),
]
Requests = Annotated[
    int | None, typer.Option(min=0, help="Requests that it may send per minute; 0: no limit.", metavar="N")
]
Tokens = Annotated[
    int | None,
    typer.Option(min=0, help="Tokens that it may use per minute, of prompts and answers; 0: no limit.", metavar="N"),
]
WarnAt = Annotated[float | None, typer.Option(help="Share of the budget from which on answers carry a warning.")]


class RoleName(StrEnum):
    """What a key may do."""

    USER = "user"
    OPERATOR = "operator"


@app.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="Tenant the key belongs to.")] = LOCAL_TENANT,
    group: Annotated[list[str] | None, typer.Option(help="Groups whose documents it may read.")] = None,
    role: Annotated[RoleName, typer.Option(help="user asks; operator also manages.")] = RoleName.USER,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    budget: BudgetOption = None,
    warn_at: WarnAt = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    config: Config = None,
) -> None:
    """Make an API key and show it once."""
    limits = (read_budget(budget or [], warn_at), read_rates(requests_per_minute, tokens_per_minute))
    with keys_of(load_settings(config)) as store:
        key = store.create(tenant, group or [EVERYONE], role.value, note, *limits)
    console.print("This key is shown once and stored hashed. From now on every request needs a key.")
    output.print(key)


@app.command("list")
def keys_list(config: Config = None) -> None:
    """List keys, without their secrets."""
    id = Column("id", no_wrap=True)  # `revoke` needs the whole of it
    table = Table(id, "tenant", "groups", "role", "budget", "req/min", "tok/min", "note", "state")
    with keys_of(load_settings(config)) as store:
        keys = store.list()
    for key in keys:
        state = "revoked" if key.revoked_at else "in force"
        caller = key.caller
        groups, budget = ", ".join(sorted(caller.groups)), _shown(caller.budget)
        limits = caller.rates or RateLimits()
        rates = (str(limits.requests_per_minute or "none"), str(limits.tokens_per_minute or "none"))
        table.add_row(key.id, caller.tenant, groups, caller.role, budget, *rates, key.note, state)
    output.print(table)


@app.command("update")
def keys_update(
    key_id: str,
    budget: BudgetOption = None,
    warn_at: WarnAt = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    config: Config = None,
) -> None:
    """Set what a key may spend and send, in place of what it might before; running gateways know within seconds."""
    rates = read_rates(requests_per_minute, tokens_per_minute)
    if not budget and not rates.model_fields_set:
        raise KeyRefused(
            "nothing to change: give --budget, for example `--budget 5/day --budget 100/month` or `none`, "
            "--requests-per-minute or --tokens-per-minute"
        )
    allowed = read_budget(budget or [], warn_at)
    with keys_of(load_settings(config)) as store:
        if budget:
            store.set_budget(key_id, allowed)
            output.print(f"{key_id}: {_shown(allowed)}")
        if rates.model_fields_set:
            store.set_rates(key_id, rates)
        for name in sorted(rates.model_fields_set):
            output.print(f"{key_id}: {getattr(rates, name) or 'any number of'} {name.replace('_', ' ')}")


@app.command("revoke")
def keys_revoke(key_id: str, config: Config = None) -> None:
    """Refuse a key from now on."""
    with keys_of(load_settings(config)) as store:
        store.revoke(key_id)
    output.print(f"{key_id} is revoked")


def read_budget(given: Sequence[str], warn_at: float | None) -> Budget | None:
    """`5/day` and `100/month`, or `none`, as a budget. Raises KeyRefused."""
    if list(given) in ([], ["none"]):
        return None
    fields: dict[str, object] = {} if warn_at is None else {"warn_at": warn_at}
    for each in given:
        amount, _, window = each.partition("/")
        if window not in ("day", "month") or f"usd_per_{window}" in fields:
            raise KeyRefused(f"{each!r} is no budget: write `5/day`, `100/month`, both once, or `none`")
        fields[f"usd_per_{window}"] = amount
    try:
        return Budget.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise KeyRefused(f"{first['loc'][-1]}: {first['msg']}") from None


def read_rates(requests_per_minute: int | None, tokens_per_minute: int | None) -> RateLimits:
    """What was given, 0 for no limit, as limits. Raises KeyRefused."""
    given = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    try:
        return RateLimits.model_validate({name: each or None for name, each in given.items() if each is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise KeyRefused(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from None


def _shown(budget: Budget | None) -> str:
    if budget is None:
        return "none"
    limits = ((budget.usd_per_day, "day"), (budget.usd_per_month, "month"))
    return ", ".join(f"{usd}/{window}" for usd, window in limits if usd is not None) or "none"
