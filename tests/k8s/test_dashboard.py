"""Dashboards can be imported anywhere and read by anyone: a datasource variable, units, descriptions, no other ids."""

import json
from pathlib import Path

import pytest

from tests.k8s.monitoring import DASHBOARDS, dashboard, panels

GRID = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_its_links_stay_when_it_is_imported(path: Path) -> None:
    assert dashboard(path)["uid"] == path.stem
    assert dashboard(path).get("id") is None
    assert dashboard(path)["description"]


def test_the_datasource_is_a_variable(path: Path) -> None:
    first, *others = dashboard(path)["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    for each in others:
        assert each["datasource"] == DATASOURCE
    for panel in panels(path):
        assert panel["datasource"] == DATASOURCE
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    assert all(each["datasource"] == DATASOURCE for each in dashboard(path)["annotations"]["list"])
    # No id of anybody's installation anywhere.
    assert json.dumps(dashboard(path)).count('"uid": ') == 1 + json.dumps(dashboard(path)).count(
        '"uid": "${datasource}"'
    )


def test_every_panel_says_what_it_shows_and_in_what_unit(path: Path) -> None:
    titles = []
    for panel in panels(path):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        titles.append(panel["title"])
        for target in panel["targets"]:
            # A dollar that is no unit would be shown as a number of something.
            if "usd" in target["expr"] and "/ on ()" not in target["expr"] and "hosted_to_bill" not in target["expr"]:
                assert panel["fieldConfig"]["defaults"]["unit"] == "currencyUSD", panel["title"]
    assert len(set(titles)) == len(titles)


def test_nothing_lies_upon_anything(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(path)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= GRID
        cells = {(place["x"] + across, place["y"] + down) for across in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard(path)["panels"]]
    assert len(set(ids)) == len(ids)
