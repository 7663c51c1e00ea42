import base64
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from serving.registry import Registry
from tests.support.documents import document, replaced
from tests.support.training.pages import Page
from tests.support.training.published import publish_again
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE, Trainings, load
from tests.training.conftest import Train
from training import pipeline, recipes
from training.champion import open_champion
from training.figures.text import figure
from training.packaging.registration import Result
from training.recipe import Split
from training.recipes.linear import Linear
from training.report import page
from training.report.charts import learning_curves
from training.report.mistakes import worst

MODELS = ("linear", "quadrants", "fashion", "flights", "sentiment")


def report(trained: Trainings, model: str) -> tuple[Result, Page]:
    result = trained(Quadrants() if model == "quadrants" else recipes.find(model))
    assert result.report is not None
    return result, Page(result.report.read_text())


@pytest.mark.parametrize("model", MODELS)
def test_the_page_asks_nothing_of_the_network_and_is_small(trained: Trainings, model: str) -> None:
    result, found = report(trained, model)
    assert result.report is not None
    assert result.report.stat().st_size < 2_000_000
    assert not {one.tag for one in found.every()} & {"script", "iframe", "object", "embed", "audio", "video"}
    for element in found.every():
        for name in ("href", "src", "srcset", "xlink:href", "action", "data"):
            value = element.attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), f"{element.tag} {name}={value}"
    html = result.report.read_text()
    assert not re.search(r"url\((?!#)|@import|https?:", html)
    (policy,) = [one for one in found.all("meta") if one.attributes.get("http-equiv")]
    assert str(policy.attributes["content"]).startswith("default-src 'none'")


@pytest.mark.parametrize("model", MODELS)
def test_the_page_can_be_read_by_all(trained: Trainings, model: str) -> None:
    _, found = report(trained, model)
    assert found.all("html")[0].attributes["lang"] == "en"
    assert len(found.all("h1")) == 1
    assert all(one.attributes.get("alt") for one in found.all("img"))
    assert all(one.attributes["role"] == "img" and one.attributes["aria-label"] for one in found.all("svg"))
    headings = [int(one.tag[1]) for one in found.every() if re.fullmatch(r"h\d", one.tag)]
    assert all(after - before <= 1 for before, after in zip(headings, headings[1:], strict=False))
    ids = [one.attributes["id"] for one in found.every() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    targets = [str(one.attributes["href"]) for one in found.all("a")]
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    for table in found.all("table"):
        assert table.all("th")
        assert all(one.attributes.get("scope") for one in table.all("th"))


@pytest.mark.parametrize("model", MODELS)
def test_the_page_holds_the_contracts_figures(trained: Trainings, model: str) -> None:
    result, found = report(trained, model)
    evaluation, text = document(result.contract.evaluation), found.section("metrics").words()
    parts = [evaluation, *evaluation.get("slices", {}).values()]
    for part in parts:
        for metrics in (part["metrics"], *part["baselines"].values()):
            assert all(figure(value) in text for value in metrics.values())
        for low, high in part["intervals"].values():
            assert f"{figure(low)} to {figure(high)}" in text
    assert document(result.contract.lineage)["git_commit"] in found.section("lineage").words()
    assert document(result.contract.lineage)["data_sha256"] in found.section("lineage").words()


def test_a_regression_shows_its_residuals_and_its_largest_errors_as_rows(flights: Result, trained: Trainings) -> None:
    _, found = report(trained, "flights")
    assert [one.words() for one in found.section("quality").all("h3")] == [
        "Answer and truth",
        "Residuals",
        "Distribution of residuals",
    ]
    header, first, *_ = found.section("mistakes").all("tr")
    assert header.words() == "row distance hour carrier origin dest truth answer error"
    assert re.fullmatch(r"\d+ [\d.]+ \d+ \w+ \w+ \w+ [\d.]+ [\d.]+ [+-][\d.]+", first.words())
    assert "calibration" not in [one.attributes["id"] for one in found.all("section")]


def test_a_classification_shows_confusion_thresholds_and_calibration(trained: Trainings) -> None:
    result, found = report(trained, "fashion")
    evaluation = document(result.contract.evaluation)
    (matrix,) = [one for one in found.all("table") if one.attributes.get("class") == "confusion"]
    rows = [[int(cell.words()) for cell in row.all("td")] for row in matrix.all("tr")[1:]]
    assert rows == evaluation["confusion"]
    assert {"ROC", "Precision and recall", "Reliability"} <= {one.words() for one in found.all("h3")}
    text = found.section("calibration").words()
    calibration = evaluation["calibration"]
    offered = (calibration["temperature"], calibration["scaled"]["ece"], calibration["scaled"]["log_loss"])
    for value in (calibration["ece"], calibration["log_loss"], *offered):
        assert figure(value) in text
    assert "fitted on 5,000 validation rows" in text


def test_wrongly_told_pictures_are_shown(trained: Trainings) -> None:
    result, found = report(trained, "fashion")
    test = load(recipes.find("fashion")).test
    shown = found.section("mistakes").all("img")
    assert len(shown) == 12
    for image in shown:
        alt = re.fullmatch(r"image of held-out row (\d+), (.+)", str(image.attributes["alt"]))
        assert alt is not None
        content = base64.b64decode(str(image.attributes["src"]).removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(pixels, test.inputs["image"][int(alt[1])])
        assert alt[2] == result.contract.labels[test.target[int(alt[1])]]


def test_wrongly_told_texts_are_shown(trained: Trainings) -> None:
    _, found = report(trained, "sentiment")
    texts = {" ".join(text.split()) for text in load(recipes.find("sentiment")).test.texts["text"]}
    shown = [one.words() for one in found.section("mistakes").all("blockquote")]
    assert shown
    assert all(text in texts or text.endswith("…") for text in shown)


def test_the_worst_of_a_classification_are_the_wrong_answers_that_gave_the_truth_least(quadrants: Result) -> None:
    output = np.array([[0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0], [0.3, 0.4, 0.2, 0.1], [0.2, 0.3, 0.3, 0.2]], np.float32)
    split = Split({"east": np.arange(4.0), "north": np.arange(4.0)}, np.array([0, 0, 0, 3]))
    found = worst(quadrants.contract, split, output, pictures=False)
    assert [one.row for one in found] == [1, 3, 2]
    assert (found[0].truth, found[0].answer, found[0].size) == ("NE", "NW (90.0%)", "10.00%")
    assert found[0].values == {"east": "1", "north": "1"}
    assert [one.row for one in worst(quadrants.contract, split, output, pictures=False, most=1)] == [1]


def test_the_worst_of_a_regression_are_the_largest_errors_either_way(linear: Result) -> None:
    split = Split({"x": np.arange(4.0)}, np.array([0.0, 2.0, 4.0, 6.0]))
    output = np.array([0.0, 5.0, 3.0, 2.0], np.float32)
    found = worst(linear.contract, split, output, pictures=False)
    assert [(one.row, one.size) for one in found] == [(3, "-4"), (1, "+3"), (2, "-1")]
    assert (found[0].truth, found[0].answer) == ("6", "2")


def test_the_learning_curves_say_where_they_begin_and_end() -> None:
    history = [{"epoch": float(i), "loss": 1 / i, "val_loss": 2 / i, "gradient_norm": 1.0} for i in (1, 2, 4)]
    charts = {chart.title: chart.alt for chart in learning_curves(history)}
    assert charts.keys() == {"Loss", "Gradient norm"}
    assert charts["Loss"].endswith("training 1 to 0.25; validation 2 to 0.5.")
    assert learning_curves(history[:1]) == learning_curves([]) == []


def test_a_texts_markup_is_text_in_the_page(quadrants: Result, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    contract = msgspec.structs.replace(quadrants.contract, labels=(evil, "NW", "SW", "SE"))
    data = load(Quadrants())
    output = np.full((len(data.test), 4), 0.25, np.float32)
    html = page.render(Quadrants(), contract, data, output)
    assert "<script" not in html
    assert evil in Page(html).section("quality").words()


@pytest.fixture
def again(trained: Trainings, linear: Result, tmp_path: Path) -> Callable[[Callable[[str], None]], Result]:
    """Publishes linear once more, and reports on it as training does."""
    registry = Registry(shutil.copytree(trained.registry.store, tmp_path / "store"))
    champion = open_champion(Linear(), registry, CACHE, tmp_path / "graphs")
    output = 2 * champion.trained.data.test.inputs["x"]
    return lambda step: pipeline.report(
        publish_again(champion, registry), champion.trained.recipe, champion.trained.data, output, step
    )


def test_a_report_that_fails_loses_no_training(
    again: Callable[[Callable[[str], None]], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(page, "write_atomically", fail)
    told: list[str] = []
    result = again(told.append)
    assert result.report is None
    assert result.state == "champion"
    assert told[-1] == "no report could be written (OSError: no space left on device); the version is registered"


def test_every_version_has_a_page_of_its_own(again: Callable[[Callable[[str], None]], Result], tmp_path: Path) -> None:
    second = again(lambda text: None)
    pages = {path.name for path in (tmp_path / "store" / "reports").iterdir()}
    assert {"linear-1.0.html", "linear-1.1.html"} <= pages
    assert second.report == tmp_path / "store" / "reports" / "linear-1.1.html"


def test_the_same_training_gives_the_same_page_but_for_its_time(train: Train, tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        result = train(Linear(), "tutorial")
        data = Linear().load(Linear.presets["tutorial"], CACHE)
        contract = replaced(
            result.contract,
            version="1.0",
            lineage=document(result.contract.lineage) | {"created": "now", "fit_seconds": 1},
        )
        pages.append(page.render(Linear(), contract, data, 2 * data.test.inputs["x"]))
    assert pages[0] == pages[1]
    assert Result(result.contract, result.archive, "champion", "").report is None
