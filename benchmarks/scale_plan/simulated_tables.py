"""The part of the page that tells what the simulation answered, and how far it can be believed."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.scale_plan import scenarios
from benchmarks.scale_plan.autoscaling import SYNC_S
from benchmarks.scale_plan.measured import Engine
from benchmarks.scale_plan.sizes import VOLUMES
from benchmarks.scale_plan.tables import paragraph, table, volume

Rows = Sequence[Mapping[str, Any]]
_HEADING = (
    "fleet", "p50 to the first token", "p95", "p95 in the worst five minutes", "p95 whole", "refused", "broken off",
    "replica hours", "starts, stops",
)  # fmt: skip


def simulated(runs: Mapping[str, Rows], engine: Engine, picture: str) -> str:
    """All groups."""
    peak = scenarios.fleet_of(engine, VOLUMES[0])
    parts = [
        "## The simulation\n",
        paragraph(
            "Each replica computes prompts one after another and all answers in steps, with the demand above; it has "
            f"{engine.demand.slots} places. Requests arrive by Poisson, prompts vary by half either way and answers "
            "exponentially (assumed). A router chooses; the gateways' door refuses what would wait longer than its "
            f"objective ({scenarios.DOOR_S:g} s) allows. Modelled."
        ),
        f"![The scale plan]({picture})\n",
        "### Can it be believed?\n",
        "One replica under the measured rates, for as long as they were measured:\n",
        _check(runs["check"], engine),
        f"### A day of {volume(VOLUMES[0])} a month\n",
        _fleets(runs["day"]),
        _day_words(runs["day"]),
        f"### Five times the mean of {volume(VOLUMES[0])}, for an hour\n",
        paragraph(
            "KEDA and the HPA by `k8s/components/keda/engine.yaml`: waiting requests and full caches, as scraped "
            f"{SYNC_S:g} s before. A cache is as full as the places are taken (assumed). A cold start of "
            f"{runs['burst'][0]['cold_start_s']:g} s was measured without pulling an image; the others are assumed."
        ),
        _fleets(runs["burst"]),
        _burst_words(runs["burst"]),
        f"### A node lost at the peak of {volume(VOLUMES[0])}\n",
        paragraph(
            f"{peak} replicas carry the peak. One goes after half an hour with what it was answering; "
            "Kubernetes starts "
            "another at once."
        ),
        _fleets(runs["loss"]),
        f"### Routers, at the peak of {volume(VOLUMES[1])}\n",
        _routers(runs["routers"], engine),
    ]
    return "\n".join(parts)


def _check(rows: Rows, engine: Engine) -> str:
    pairs = zip(rows, engine.levels, strict=True)
    written = [
        [
            f"{row['rate']:g}/s",
            f"{level.ttft_p50_s:.2f} s",
            f"{row['ttft_p50_s']:.2f} s",
            f"{level.ttft_p95_s:.2f} s",
            f"{row['ttft_p95_s']:.2f} s",
            f"{level.e2e_p95_s:.2f} s",
            f"{row['e2e_p95_s']:.2f} s",
        ]
        for row, level in pairs
    ]
    what = ("p50 to the first token, measured", "p95, measured", "p95 whole, measured")
    heading = ["rate", *(each for name in what for each in (name, "simulated"))]
    ratios = [row["ttft_p95_s"] / level.ttft_p95_s for row, level in zip(rows, engine.levels, strict=True)]
    words = paragraph(
        f"The simulated p95 to the first token is {min(ratios):.2f} to {max(ratios):.2f} of the measured one. Nothing "
        "was fitted to the sweep: the demand comes from closed loops of other shapes, at most "
        f"{max(engine.fit.concurrencies):g} answers at a time."
    )
    return table(heading, written) + "\n" + words


def _fleets(rows: Rows) -> str:
    return table(_HEADING, [_fleet(row) for row in rows])


def _fleet(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['ttft_p50_s']:.2f} s",
        f"{row['ttft_p95_s']:.2f} s",
        f"{row['worst_ttft_p95_s']:.2f} s",
        f"{row['e2e_p95_s']:.2f} s",
        f"{row['refused']:.2%}",
        str(row["broken"]),
        f"{row['billed_hours']:.1f}",
        f"{row['started']}, {row['stopped']}",
    ]


def _day_words(rows: Rows) -> str:
    fixed, scaled = rows[0], rows[-1]
    change = scaled["billed_hours"] / fixed["billed_hours"] - 1
    return paragraph(
        f"KEDA's fleet is billed for {scaled['billed_hours']:.1f} replica hours, {change:+.0%} against the "
        "peak's with a "
        f"spare; its p95 to the first token is {scaled['ttft_p95_s'] / fixed['ttft_p95_s']:.1f} times that one's."
    )


def _burst_words(rows: Rows) -> str:
    *scaled, known = [row for row in rows if row["cold_start_s"] is not None]
    worst, first = max(scaled, key=lambda row: float(row["refused"])), scaled[0]
    words = (
        f"The longer the cold start, the more is refused: {worst['refused']:.1%} at {worst['cold_start_s']:g} s, "
        f"{first['refused']:.1%} at the measured {first['cold_start_s']:g} s. A replica a minute (`scaleUp`) and the "
        "cold start both come after the burst has begun: only capacity that is there already helps."
    )
    if again := _again(first):
        words += (
            f" KEDA's fleet shrinks and grows again, {again} times in all: once there are enough replicas nothing "
            "waits any more, and after the stabilisation window the signal says that fewer would do. With a third "
            "trigger, requests that run (per replica those in one at its rate within the objectives, less the "
            f"reserve), it does so {_again(known)} times, and the p95 is {known['ttft_p95_s']:.2f} s in place of "
            f"{first['ttft_p95_s']:.2f} s, for {known['billed_hours']:.1f} replica hours in place of "
            f"{first['billed_hours']:.1f}. The manifest has none: that number must be measured on your GPU."
        )
    return paragraph(words)


def _again(row: Mapping[str, Any]) -> int:
    """How often a fleet began to grow after it had shrunk."""
    counts = [count for _, count in row["fleet"]]
    turns = [b - a for a, b in pairwise(counts) if b != a]
    return sum(one < 0 < other for one, other in pairwise(turns))


def _routers(rows: Rows, engine: Engine) -> str:
    fleet = scenarios.fleet_of(engine, VOLUMES[1])
    written = [
        [
            row["router"],
            row["prompts"],
            f"{row['ttft_p50_s']:.2f} s",
            f"{row['ttft_p95_s']:.2f} s",
            f"{row['e2e_p95_s']:.2f} s",
            "" if row["hits"] is None else f"{row['hits']:.0%}",
        ]
        for row in rows
    ]
    heading = ["router", "prompts", "p50 to the first token", "p95", "p95 whole", "found in a cache"]
    words = paragraph(
        f"The same {fleet} replicas and the same requests. Shared: {scenarios.SHARED:.0%} of a prompt, of "
        f"{scenarios.TOPICS:,} beginnings asked for by Zipf's law, of which a replica keeps the last "
        f"{scenarios.REMEMBERED} (assumed). A plain Service is the random one, our Envoy takes the better of two, an "
        "endpoint picker of the Gateway API inference extension is nearest to affinity (consistent hashing with "
        "bounded "
        "loads)."
    )
    return words + "\n" + table(heading, written)
