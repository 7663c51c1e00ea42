"""The dashboards: their committed JSON is what the code makes, and every panel explains itself."""

import json
from typing import Any

import pytest
import yaml

from monitoring.grafana.generate import DASHBOARDS, FOLDER, documents

GRAFANA = FOLDER.parent
BOARDS = {name: json.loads(text) for name, text in documents().items()}
PANELS = [
    pytest.param(panel, id=f"{name.removesuffix('.json')}, {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def test_the_committed_json_is_current() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(DASHBOARDS)
    for name, text in documents().items():
        assert (FOLDER / name).read_text() == text, "run `python -m monitoring.grafana.generate` and commit"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_description_a_unit_the_data_source_and_told_apart_queries(panel: dict[str, Any]) -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    letters = [target["refId"] for target in panel["targets"]]
    assert letters
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_models_and_versions_can_be_chosen_several_or_all(board: dict[str, Any]) -> None:
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert set(variables) == {"model", "version"}
    assert all(one["multi"] and one["includeAll"] for one in variables.values())


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_panels_fill_the_grid_without_overlap(board: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))
