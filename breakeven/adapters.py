"""`breakeven adapters`: what is in the registry."""

from rich.table import Table

from adapters.registry import Registry
from breakeven.console import Config, output
from serving.settings import load_settings


def adapters(config: Config = None) -> None:
    """List the installed adapter versions."""
    registry = Registry(load_settings(config).home / "adapters")
    table = Table("adapter", "base model", "alias", "created")
    for name in registry.names():
        aliases = registry.aliases(name)
        for version in registry.versions(name):
            found = registry.resolve(f"{name}@{version}")
            named = ", ".join(alias for alias, target in aliases.items() if target == version)
            table.add_row(found.engine_name, found.manifest.base_model, named, found.manifest.created)
    output.print(table)
