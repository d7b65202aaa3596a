"""Verdicts in words: thresholds, conditions and reasons, the same on the terminal and in the page."""

from collections.abc import Mapping
from decimal import Decimal

from benchmarks.claims.claim import Expectation, Kind, Outcome, Side
from benchmarks.claims.contradictions import Conflict
from benchmarks.claims.expression import Call, Measured, Number, Range, leaves
from benchmarks.claims.judging import CaseFinding, TestFinding, Verdict

OUTCOME_NAMES: Mapping[Outcome, str] = {
    "holds": "holds",
    "fails": "fails",
    "holds_only_if": "holds only if",
    "not_yet_measured": "not yet measured",
    "not_testable": "not testable",
}
KIND_NAMES: Mapping[Kind, str] = {
    "calculation": "calculation",
    "price": "price",
    "measured_cpu": "measurement (CPU)",
    "measured_gpu": "measurement (GPU)",
    "consistency": "other documents",
    "not_testable": "none",
}
_DIGITS = 4
# Where a parameter's name is no English.
_NAMES = {
    "each_queries_per_minute": "queries per minute per GPU",
    "gpu_s": "GPU-seconds per query",
    "billion_parameters": "billion parameters",
    "position_share": "position between the ends",
    "retrieved_usd_per_month": "retrieval, USD per month",
}


def shown(value: Decimal) -> str:
    """A number of four digits: 182,500, 69.44, 0.00036."""
    if not value.is_finite():
        return "never" if value > 0 else str(value)
    if value == 0:
        return "0"
    places = _DIGITS - 1 - value.adjusted()
    rounded = round(value, places) if places > 0 else Decimal(round(value / 10**-places)) * 10**-places
    text = f"{rounded:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_unit(values: tuple[Decimal, ...], unit: str) -> str:
    """One value, or the interval that several cover."""
    low, high = shown(min(values)), shown(max(values))
    if unit in ("1", "share"):
        unit = ""
    elif low == high == "1":
        unit = unit.removesuffix("s")
    return f"{low if low == high else f'{low} to {high}'} {unit}".rstrip()


def expected(expect: Expectation, unit: str) -> str:
    """What the claim says the formula gives."""
    ends = "" if unit in ("1", "share") else f" {unit}"
    low, high = expect.low, expect.high
    if expect.within is not None and low is not None and high is not None:
        text = f"{shown((low + high) / 2)}{ends} ± {shown(expect.within * 100)} %"
        return text + (f" ({expect.said})" if expect.said else "")
    if low is not None and high is not None:
        text = f"{shown(low)} to {shown(high)}"
    elif low is not None:
        text = f"{'above' if expect.strict else 'at least'} {shown(low)}"
    elif high is not None:
        text = f"{'below' if expect.strict else 'at most'} {shown(high)}"
    else:
        return ""
    return text + ends + (f" ({expect.said})" if expect.said else "")


def reason(verdict: Verdict) -> str:
    """Why the verdict is what it is, in one paragraph."""
    claim = verdict.claim
    if claim.untestable:
        return claim.untestable
    if claim.kind == "consistency":
        if not verdict.conflicts:
            return "No other document disagrees, and agreement is no evidence."
        return "these are wrong: " + "; ".join(_against(conflict.other, conflict) for conflict in verdict.conflicts)
    parts = [finding for finding in verdict.findings if finding.outcome != "holds" or _tells(verdict, finding)]
    text = "; ".join(map(_part, parts))
    if verdict.inverted:
        text += f" (threshold inversion: {verdict.why_inverted}, so this is what would have to be true)"
    return text


def _tells(verdict: Verdict, finding: TestFinding) -> bool:
    """Whether a part that holds is worth a word: it is the whole answer, or all that has been measured so far."""
    return verdict.outcome == "holds" or (verdict.outcome == "not_yet_measured" and bool(_devices(finding)))


def _devices(finding: TestFinding) -> str:
    found = [leaf.device for case in finding.cases for _, leaf in leaves(case.call) if isinstance(leaf, Number)]
    names = dict.fromkeys(device.partition(" (")[0] for device in found if device)
    return f", measured on a {' and a '.join(names)}" if names else ""


def _part(finding: TestFinding) -> str:
    about = f"{finding.test.about}: " if finding.test.about else ""
    if finding.outcome == "not_yet_measured":
        files = {leaf.files: ", ".join(other.place for other in finding.missing if other.files == leaf.files)
                 for leaf in finding.missing}  # fmt: skip
        return f"{about}missing " + "; ".join(f"{places} in {pattern}" for pattern, places in files.items())
    if finding.outcome == "holds_only_if":
        return about + condition(finding) + _devices(finding)
    values = tuple(value for case in finding.cases for value in case.values)
    found = f"{with_unit(values, finding.test.unit)}{_devices(finding)}"
    return f"{about}{found}; claimed {expected(finding.test.expect, finding.test.unit)}"


def condition(finding: TestFinding) -> str:
    """For which cases, and in which part of the searched range, a part of a claim is true."""
    names = {case.searched[0] for case in finding.cases if case.searched}
    cases = "; ".join(f"{case.label}: {where(case, finding)}" if case.label else where(case, finding)
                      for case in finding.cases)  # fmt: skip
    if not names:
        return cases
    comma = "," if any(case.label for case in finding.cases) else ""
    return f"{' and '.join(sorted(map(input_name, names)))}{comma} {cases}"


def where(case: CaseFinding, finding: TestFinding) -> str:
    """Where one case is true."""
    if case.searched is not None:
        some = " or ".join(_span(span.low, span.high, case.searched[1]) for span in case.spans)
        return {"true": "any", "false": "none"}.get(case.truth, some)
    words = {"true": "yes", "false": "no", "open": "open, the interval holds the threshold"}
    return f"{words[case.truth]} ({with_unit(case.values, finding.test.unit)})"


def _span(low: Decimal | None, high: Decimal | None, searched: Range) -> str:
    if low is not None and high is not None:
        return f"{shown(low)} to {shown(high)}"
    return f"at least {shown(low)}" if low is not None else f"at most {shown(high or searched.high)}"


def input_name(name: str) -> str:
    """A parameter as a reader would call it; its unit is in the name."""
    return _NAMES.get(name, name.replace("_", " "))


def case_values(case: CaseFinding, unit: str) -> str:
    """What the formula gives in one case; over a range, at its ends and at the document's own value."""
    if case.searched is None:
        return with_unit(case.values, unit)
    name, searched = case.searched
    points = [at for at in (searched.low, searched.at, searched.high) if at is not None]
    pairs = (f"{shown(value)} at {shown(at)}" for at, value in zip(points, case.values, strict=True))
    return f"{', '.join(pairs)} {input_name(name)}" + ("" if unit in ("1", "share") else f" [{unit}]")


def side_text(side: Side, unit: str) -> str:
    """What one side of a group says."""
    if side.stance:
        return side.stance
    if side.low is None or side.high is None:
        end = f"at least {shown(side.low)}" if side.low is not None else f"at most {shown(side.high or Decimal(0))}"
        return f"{end} {unit}"
    return with_unit((side.low, side.high), unit)


def _against(side: Side, conflict: Conflict) -> str:
    *most, last = side.claims
    names = f"{', '.join(most)} and {last}" if most else last
    return f"{names} ({side_text(side, conflict.group.unit)})"


def conflict_verdicts(conflict: Conflict, found: Mapping[str, Verdict]) -> str:
    """What became of the claims on both sides."""
    claims = (*conflict.one.claims, *conflict.other.claims)
    return ", ".join(f"{claim} {OUTCOME_NAMES[found[claim].outcome]}" for claim in claims)


def conflict_text(conflict: Conflict) -> str:
    """Two sides against each other."""
    return f"{_against(conflict.one, conflict)} against {_against(conflict.other, conflict)}"


def inputs_of(call: Call, depth: int = 0) -> list[tuple[int, str, str, str]]:
    """Depth, name, value and origin of every input of a formula, nested formulas before their own inputs."""
    rows = []
    for name, given in call.inputs.items():
        if isinstance(given, Call):
            rows.append((depth, input_name(name), f"= {given.formula.name} [{given.unit}]", given.formula.says))
            rows += inputs_of(given, depth + 1)
        else:
            value, origin = _leaf(given)
            rows.append((depth, input_name(name), value, origin))
    return rows


def _leaf(leaf: Number | Range | Measured) -> tuple[str, str]:
    if isinstance(leaf, Range):
        return (
            f"{shown(leaf.low)} to {shown(leaf.high)}{'' if leaf.unit == '1' else ' ' + leaf.unit}",
            f"searched: {leaf.why}",
        )
    if isinstance(leaf, Measured):
        return f"? {leaf.unit}", f"not measured: {leaf.files} ({leaf.place})"
    interval = "" if leaf.low is None or leaf.high is None else f" ({shown(leaf.low)} to {shown(leaf.high)})"
    seen = f", seen {leaf.as_of}" if leaf.as_of else ""
    unit = "" if leaf.unit == "1" else f" {leaf.unit}"
    device = f", on {leaf.device}" if leaf.device else ""
    origin = f"document {leaf.source}" if leaf.origin == "document" else f"{leaf.origin}: {leaf.source}{seen}{device}"
    return f"{shown(leaf.value)}{interval}{unit}", origin
