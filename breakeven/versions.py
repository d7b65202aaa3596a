"""`breakeven adapters`: which versions there are, what the aliases mean, and who decided it."""

from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
import yaml
from rich.table import Column, Table

from adapters.aliases import PROD
from breakeven.console import Config, output
from serving import versions
from serving.rollout.desk import Wish
from serving.rollout.rewrite import Group, rewrite, share_of
from serving.settings import load_settings

app = typer.Typer(help="List, try, promote and roll back adapter versions.", no_args_is_help=True)
Alias = Annotated[str, typer.Option(help="prod, canary, or any other.")]
Reason = Annotated[str, typer.Option(help="Kept in the audit log.")]
Version = Annotated[str, typer.Argument(help="name@version, as `adapters list` shows it, or name@alias.")]


@app.command("list")
def list_versions(config: Config = None) -> None:
    """List the installed versions."""
    table = Table(Column("adapter", no_wrap=True), "base model", "aliases", "created", "scores")
    for each in versions.open_versions(load_settings(config)).listing():
        scores = ", ".join(f"{name} {value:g}" for name, value in each["scores"].items())
        table.add_row(each["id"], each["base_model"], ", ".join(each["aliases"]), each["created"], scores)
    output.print(table)


@app.command()
def show(name: str, config: Config = None) -> None:
    """Show an adapter's versions, every decision about it, and the numbers of a running canary."""
    found = versions.open_versions(load_settings(config)).show(name.partition("@")[0])
    for each in found["versions"]:
        named = f" ({', '.join(each['aliases'])})" if each["aliases"] else ""
        output.print(f"{each['id']}{named}  rank {each['rank']}, made {each['created']}")
        if each["usage"]["requests"]:
            cost, seconds = each["usage"]["mean_cost_usd"], each["usage"]["mean_seconds"]
            answers = f"{each['usage']['requests']} answers in {each['usage']['days']} days"
            output.print(f"    {answers}: ${cost:.8f} and {seconds:.2f} s each")
        for score in (*each["manifest"]["scores"], *each["manifest"]["measurements"]):
            interval = f"(95 %: {score['low']:g} to {score['high']:g})"
            output.print(f"    {score['name']}: {score['value']:g} of {score['n']} {interval}")
    for trial in found["trials"]:
        output.print(f"canary by {trial['source']}s: {_numbers(trial)}")
    for each in found["decisions"]:
        output.print(_decision(each))


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(exists=True, help="An adapter folder, as `breakeven train` writes it.")],
    config: Config = None,
) -> None:
    """Verify an adapter folder and install it; the first version of a name becomes prod."""
    settings = load_settings(config)
    added = versions.add(settings, folder)
    output.print(f"{added.engine_name} is installed")
    if (step := versions.next_step(settings, added)) is not None:
        output.print(step)


@app.command()
def promote(
    version: Version,
    alias: Alias = PROD,
    force: Annotated[bool, typer.Option("--force", help="Although it misses a threshold; needs --reason.")] = False,
    reason: Reason = "",
    config: Config = None,
) -> None:
    """Let an alias mean a version from now on; a running gateway loses no request."""
    name, _, wanted = version.partition("@")
    told = versions.open_versions(load_settings(config)).promote(Wish(name, wanted, alias, "", reason, force))
    _tell(name, told["aliases"])
    for url, why in told.get("engines_without_it", {}).items():
        output.print(f"not yet in the engine at {url}: {why}; it gets it when it can")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the adapter.")],
    alias: Alias = PROD,
    reason: Reason = "",
    config: Config = None,
) -> None:
    """Let prod mean what it meant before, or end a canary."""
    _tell(name, versions.open_versions(load_settings(config)).rollback(name, alias, reason)["aliases"])


@app.command()
def rm(version: Version, reason: Reason = "", config: Config = None) -> None:
    """Delete a version that no alias means."""
    name, _, wanted = version.partition("@")
    versions.open_versions(load_settings(config)).remove(name, wanted, reason)
    output.print(f"{version} is removed")


@app.command("rewrite")
def rewrite_rule(
    name: Annotated[str, typer.Argument(help="Name of the adapter.")],
    pool: Annotated[str, typer.Option(help="InferencePool of the engines.")] = "engine",
    group: Annotated[str, typer.Option(help="inference.networking.x-k8s.io, or llm-d.ai where llm-d routes.")] = (
        "inference.networking.x-k8s.io"
    ),
    share: Annotated[
        float | None, typer.Option(min=0.001, max=0.999, help="The canary's part; default: canary.share.")
    ] = None,
    config: Config = None,
) -> None:
    """Print prod and canary as an InferenceModelRewrite, for clients that reach the engines past this gateway."""
    if group not in get_args(Group):
        raise typer.BadParameter(f"it is one of {', '.join(get_args(Group))}", param_hint="--group")
    settings = load_settings(config)
    aliases = versions.open_versions(settings).show(name)["aliases"]
    part = share_of(name, settings.models.values()) if share is None else share
    manifest = rewrite(name, aliases, part, pool, cast(Group, group))
    output.print(yaml.safe_dump(manifest, sort_keys=False), end="")


def _tell(name: str, aliases: dict[str, str]) -> None:
    said = ", ".join(f"{alias} is {name}@{version}" for alias, version in sorted(aliases.items()))
    output.print(said or f"{name} has no alias any more")


def _decision(each: dict[str, Any]) -> str:
    # Lines and no table: a reason is a sentence, and a cell would break it, also for who searches for it.
    what = each["action"] + (" by force" if each["forced"] else "")
    change = f"{each['alias'] or 'version'} {each['from'] or 'nothing'} -> {each['to'] or 'nothing'}"
    reason = f": {each['reason']}" if each["reason"] else ""
    return f"{each['at'][:19]}  {what}  {change}  by {each['who']}{reason}"


def _numbers(trial: dict[str, Any]) -> str:
    arms = [f"{arm} {trial[arm]['mean']} of {trial[arm]['n']}" for arm in ("prod", "canary")]
    return f"{', '.join(arms)}; evidence {trial['e_value']:g}, rolled back at {trial['threshold']:g}"
