"""The registry of formulas that claims name. Pure functions of Decimals; units are in the names of their parameters.

Where the economic model has the formula, the function here only calls it.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.claims.formulas import arithmetic, serving, tuning

# The longest ending of a parameter's name that is listed here gives its unit. "any" takes what it is given.
_UNITS: Mapping[str, str] = {
    "usd_per_mtok": "USD/Mtok",
    "usd_per_query": "USD/query",
    "usd_per_month": "USD/month",
    "usd_per_year": "USD/year",
    "usd_per_hour": "USD/h",
    "usd_per_million": "USD/million",
    "usd": "USD",
    "queries_per_month": "queries/month",
    "queries_per_minute": "queries/min",
    "queries_per_day": "queries/day",
    "retrains_per_month": "1/month",
    "read_units_per_query": "read units",
    "hours_per_day": "h/day",
    "hours": "h",
    "months": "months",
    "ms_per_token": "ms/token",
    "ms": "ms",
    "gpu_s": "s",
    "tokens": "tokens",
    "share": "share",
    "gb": "GB",
    "factor": "1",
    "epochs": "1",
    "billion_parameters": "billion",
    "bytes_per_parameter": "bytes",
    "documents": "documents",
    "chunks": "chunks",
    "examples": "examples",
    "vectors": "vectors",
    "dimensions": "1",
    "gpus": "GPUs",
    "value": "any",
    "other": "any",
}


def unit_of(parameter: str) -> str:
    """The unit that a parameter's name carries."""
    fitting = [ending for ending in _UNITS if parameter == ending or parameter.endswith("_" + ending)]
    if not fitting:
        raise ValueError(f"no unit is known for the parameter {parameter}; end its name in one of {sorted(_UNITS)}")
    return _UNITS[max(fitting, key=len)]


@dataclass(frozen=True, slots=True)
class Formula:
    """A function by its name. `unit` of the result is "any" if it is that of its free inputs. `modelled`: it calls the
    economic model's costs over time or over a fleet, rather than multiplying what is given.
    """

    name: str
    function: Callable[..., Decimal]
    unit: str
    parameters: Mapping[str, str]
    says: str
    modelled: bool

    def __hash__(self) -> int:
        return hash(self.name)


def _formulas() -> dict[str, Formula]:
    found = {}
    for module in (arithmetic, serving, tuning):
        for function, unit in module.FORMULAS.items():
            parameters = {name: unit_of(name) for name in inspect.signature(function).parameters}
            says = (inspect.getdoc(function) or "").partition("\n\n")[0]
            name, modelled = function.__name__, module is not arithmetic
            found[name] = Formula(name, function, unit, parameters, " ".join(says.split()), modelled)
    return found


FORMULAS: Mapping[str, Formula] = _formulas()
