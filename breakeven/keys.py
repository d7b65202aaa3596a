"""`breakeven keys`: make, list and revoke API keys, straight in the file that a running gateway watches."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from breakeven.console import Config, console, output
from serving.auth import EVERYONE, LOCAL_TENANT, KeyStore
from serving.settings import load_settings

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


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
    config: Config = None,
) -> None:
    """Make an API key and show it once."""
    store = KeyStore(load_settings(config).home / "keys.db")
    key = store.create(tenant, group or [EVERYONE], role.value, note)
    console.print("This key is shown once and stored hashed. From now on every request needs a key.")
    output.print(key, markup=False)


@app.command("list")
def keys_list(config: Config = None) -> None:
    """List keys, without their secrets."""
    table = Table("id", "tenant", "groups", "role", "note", "state")
    for key in KeyStore(load_settings(config).home / "keys.db").list():
        state = "revoked" if key.revoked_at else "in force"
        caller = key.caller
        table.add_row(key.id, caller.tenant, ", ".join(sorted(caller.groups)), caller.role, key.note, state)
    output.print(table)


@app.command("revoke")
def keys_revoke(key_id: str, config: Config = None) -> None:
    """Refuse a key from now on."""
    KeyStore(load_settings(config).home / "keys.db").revoke(key_id)
    output.print(f"{key_id} is revoked")
