"""Models and versions over HTTP."""

from pathlib import Path

from tests.support.monitoring.worlds import Monitor, event
from tests.support.serving.stores import add


def test_models_are_told_with_their_champion_and_what_is_known_of_them(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    assert monitor.client.get("/models").json() == []
    add(monitor.models, "silent", state="challenger")
    add(monitor.models)
    add(monitor.models, number="1.1", state="challenger")
    monitor.send(event("a"), event("b"), event("c", version="1.1"))
    monitor.tell({"request_id": "b", "label": 1}, {"request_id": "c", "label": 1}, {"request_id": "d", "label": 1})
    found = monitor.client.get("/models").json()
    assert found == [
        {"name": "doubling", "task": "regression", "champion": "1.0", "versions": 2, "predictions": 3, "labelled": 2},
        {"name": "silent", "task": "regression", "champion": None, "versions": 1, "predictions": 0, "labelled": 0},
    ]
    first, second = monitor.client.get("/models/doubling/versions").json()
    assert (first["version"], first["state"], first["predictions"], first["labelled"]) == ("1.0", "champion", 2, 1)
    assert (second["version"], second["predictions"], second["labelled"]) == ("1.1", 1, 1)
    assert second["newest"] == "2013-02-17T12:00:00Z"


def test_an_unknown_model_is_a_404_that_names_the_known_ones(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    response = monitor.client.get("/models/dubling/versions")
    assert response.status_code == 404
    assert response.json()["detail"] == "there is no model 'dubling', only doubling"


def test_a_damaged_entry_is_told_and_takes_no_other_model_along(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models, "halving")
    add(monitor.models)
    text = monitor.models.path.read_text()
    monitor.models.path.write_text(text.replace('"archive": "halving-1.0.mar"', '"archive": null'))
    first, second = monitor.client.get("/models").json()
    assert (first["name"], first["champion"], "damaged" in first) == ("doubling", "1.0", False)
    assert (second["name"], second["champion"], second["versions"]) == ("halving", None, 0)
    assert "is damaged: Expected `str`, got `null` - at `$.archive`" in second["damaged"]["1.0"]
    assert monitor.client.get("/models/doubling/versions").status_code == 200


def test_versions_that_a_former_registry_measured_as_nan_are_told(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    text = monitor.models.path.read_text()
    monitor.models.path.write_text(text.replace('"evaluation": {}', '"evaluation": {"metrics": {"r2": NaN}}'))
    assert monitor.client.get("/models").status_code == 200
    (version,) = monitor.client.get("/models/doubling/versions").json()
    assert version["evaluation"] == {"metrics": {"r2": None}}
