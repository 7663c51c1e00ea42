"""Registered versions opened in this process: what they answer is what a worker would, for every entry point."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from handlers.contract import Array, ModelContract
from handlers.formats.tokens import TextTokenizer
from monitoring.retraining.judging.archived import Refusal, open_archive
from monitoring.retraining.judging.judge import judge
from monitoring.retraining.policy import JudgePolicy
from monitoring.store.records import Labelled, Prediction
from serving.registry import ArchiveError, Registry, Version, file_sha256
from serving.settings import Folders
from tests.support.handlers.models import PICTURES, pixels
from tests.support.kept import keep, sources
from tests.support.serving.stores import add_contract, alter
from tests.support.training.former import FORMER
from tests.support.training.quadrants import Quadrants
from training import pipeline
from training.packaging.contents import build
from training.packaging.registration import TrainOptions
from training.recipe import Serving
from training.statistics.pair import Pair

NOW = datetime(2013, 2, 17, 12, tzinfo=UTC)
CENTRES = {"NE": (0.5, 0.5), "NW": (-0.5, 0.5), "SW": (-0.5, -0.5), "SE": (0.5, -0.5)}


class Pictures(Quadrants):
    """What names the entry point of pictures."""

    entry_point = "image"


class Texts(Quadrants):
    """What names the entry point of texts."""

    entry_point = "text"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Quadrants 1.0, which learned nothing, and 1.1, which learned what they are."""

    def train(folder: Path) -> None:
        registry = Registry(folder / "store")
        for preset in ("lazy", "default"):
            options = TrainOptions(preset=preset, promote="never")
            pipeline.train(Quadrants(), registry, Folders(folder, folder), options)

    kept = keep("trained", sources(), "quadrants-lazy-and-default", train)
    return Registry(shutil.copytree(kept / "store", tmp_path_factory.mktemp("quadrants") / "store"))


def prediction(contract: ModelContract, features: Mapping[str, Any], row: int = 0) -> Prediction:
    """A captured row."""
    return Prediction("captured", row, contract.name, contract.version, NOW, features, None)


def labelled(contract: ModelContract, count: int) -> list[Labelled]:
    """Points around the middle of each quadrant, with its name."""
    names = list(CENTRES)
    chance = np.random.default_rng(3)
    found = []
    for i in range(count):
        east, north = (CENTRES[names[i % 4]] + chance.uniform(-0.4, 0.4, 2)).tolist()
        found.append(Labelled(prediction(contract, {"east": east, "north": north}, i), names[i % 4], NOW))
    return found


def register(folder: Path, contract: ModelContract, recipe: Quadrants, graph: bytes, **assets: bytes) -> Registry:
    """A store with one version whose graph is given."""
    graphs, registry = folder / "graphs", Registry(folder / "store")
    (graphs / "assets").mkdir(parents=True)
    registry.store.mkdir()
    for name, content in {"model.onnx": graph, "model.pt2": b"unused", **assets}.items():
        (graphs / name).write_bytes(content)
    path = registry.store / "model.mar"
    path.write_bytes(build(recipe, contract, graphs, Serving()))
    with registry.change() as models:
        version = Version(path.name, file_sha256(path), "challenger", NOW.isoformat())
        models[contract.name] = {contract.version: version}
    return registry


def shares_of_the_mean(contract: ModelContract, datatype: int, sizes: list[str | int]) -> bytes:
    """A graph whose scores are the mean of a row's values times 0, 1, 2, …"""
    classes = len(contract.labels)
    steps = np.arange(classes, dtype=np.float32)[None]
    nodes = [
        helper.make_node("Cast", [contract.inputs[0].name], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["rows"], axis=1),
        helper.make_node("ReduceMean", ["rows", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "steps"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([1]), "axes"),
        onnx.numpy_helper.from_array(steps * 0.01, "steps"),
    ]
    inputs = [helper.make_tensor_value_info(contract.inputs[0].name, datatype, ["batch", *sizes])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])]
    graph = helper.make_graph(nodes, "mean", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def expected(contract: ModelContract, mean: float) -> Array:
    votes = np.exp(mean * 0.01 * np.arange(len(contract.labels)))
    return np.asarray(votes / votes.sum())


def test_it_answers_captured_rows_with_every_probability_in_the_order_of_the_labels(
    store: Registry, tmp_path: Path
) -> None:
    version = open_archive(store, "quadrants", "1.1", tmp_path)
    assert version.contract.version == "1.1"
    rows = labelled(version.contract, 250)  # more than are answered at once
    answers = version.answers([one.prediction for one in rows])
    right = [answer["label"] == one.label for answer, one in zip(answers, rows, strict=True)]
    assert len(right) == 250
    assert np.mean(right) > 0.95
    for answer in answers:
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert int(np.argmax(answer["probabilities"])) == version.contract.labels.index(answer["label"])
    assert answers[7] == version.answers([rows[7].prediction])[0]
    version.check_example()
    assert 0 < version.seconds(rows[0].prediction) < 60


def test_a_row_that_it_does_not_accept_harms_no_other(store: Registry, tmp_path: Path) -> None:
    version = open_archive(store, "quadrants", "1.1", tmp_path)
    good, bad = {"east": 0.5, "north": 0.5}, {"east": 0.5, "north": "up"}
    first, refused, last = version.answers([prediction(version.contract, one) for one in (good, bad, good)])
    assert first == last
    assert first["label"] == "NE"
    assert isinstance(refused, Refusal)
    assert refused.why.endswith("- at `$.north`")


def test_the_champion_that_learned_nothing_gives_way_to_the_version_that_did(store: Registry, tmp_path: Path) -> None:
    champion, challenger = (open_archive(store, "quadrants", number, tmp_path / number) for number in ("1.0", "1.1"))
    verdict = judge(Pair(champion, challenger), labelled(champion.contract, 800), JudgePolicy(latency=100))
    assert verdict.promote, verdict.reason
    assert verdict.challenger is not None
    assert verdict.challenger > 0.95
    assert not judge(Pair(challenger, champion), labelled(champion.contract, 800), JudgePolicy(latency=100)).promote
    json.dumps(msgspec.to_builtins(verdict), allow_nan=False)


def test_a_version_of_pictures_answers_those_that_are_captured_whole(tmp_path: Path) -> None:
    graph = shares_of_the_mean(PICTURES, TensorProto.UINT8, [6, 6])
    registry = register(tmp_path, PICTURES, Pictures(), graph)
    version = open_archive(registry, "pictures", "1.2", tmp_path / "opened")
    (picture,) = pixels()
    whole, mean = (prediction(PICTURES, {"pixels": value}) for value in (picture.tolist(), float(picture.mean())))
    answer, refused = version.answers([whole, mean])
    assert answer["probabilities"] == pytest.approx(expected(PICTURES, picture.mean()), abs=1e-5)
    assert answer["label"] == "shirt"
    assert isinstance(refused, Refusal)


def test_a_version_of_texts_brings_its_own_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")
    from tests.support.handlers.texts import REVIEWS, settings

    tokenizer = settings()
    graph = shares_of_the_mean(REVIEWS, TensorProto.INT64, ["length"])
    registry = register(tmp_path, REVIEWS, Texts(), graph, **{"assets/tokenizer.json": tokenizer})
    version = open_archive(registry, "reviews", "1.2", tmp_path / "opened")
    (answer,) = version.answers([prediction(REVIEWS, {"text": "good film"})])
    mean = TextTokenizer(tokenizer)(["good film"]).indices.mean()
    assert answer["probabilities"] == pytest.approx(expected(REVIEWS, mean), abs=1e-5)


def test_a_version_that_was_packed_with_handlers_of_the_former_layout_answers_as_it_did(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "store")
    registry.store.mkdir()
    path = Path(shutil.copy(FORMER, registry.store))
    with registry.change() as models:
        models["linear"] = {"1.0": Version(path.name, file_sha256(path), "champion", NOW.isoformat())}
    version = open_archive(registry, "linear", "1.0", tmp_path / "opened")
    version.check_example()
    example = version.contract.example
    (answer,) = version.answers([prediction(version.contract, example.request)])
    assert answer == pytest.approx(example.response["prediction"])


def test_a_version_that_is_not_there_or_altered_is_not_opened(tmp_path: Path) -> None:
    graph = shares_of_the_mean(PICTURES, TensorProto.UINT8, [6, 6])
    registry = register(tmp_path, PICTURES, Pictures(), graph)
    with pytest.raises(ArchiveError, match=r"pictures 2\.0 is not registered; there are 1\.2"):
        open_archive(registry, "pictures", "2.0", tmp_path)
    with pytest.raises(ArchiveError, match=r"shirts 1\.0 is not registered; there are none"):
        open_archive(registry, "shirts", "1.0", tmp_path)
    alter(registry.store / "model.mar")
    with pytest.raises(ArchiveError, match="has SHA-256"):
        open_archive(registry, "pictures", "1.2", tmp_path)


def test_an_archive_that_is_incomplete_says_what_it_lacks(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "store")
    add_contract(registry, PICTURES)
    with pytest.raises(ArchiveError, match="lacks MAR-INF/MANIFEST.json, model-config.yaml, model.onnx, model.pt2"):
        open_archive(registry, "pictures", "1.2", tmp_path)


def test_an_archive_of_another_entry_point_is_refused(tmp_path: Path) -> None:
    registry = register(tmp_path, PICTURES, Pictures(), b"")
    path = registry.store / "model.mar"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["MAR-INF/MANIFEST.json"] = files["MAR-INF/MANIFEST.json"].replace(b"image.py", b"os.py")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with registry.change() as models:
        models["pictures"]["1.2"].sha256 = file_sha256(path)
    with pytest.raises(ArchiveError, match="pictures 1.2 cannot be opened: the entry point is 'os'; it must be one of"):
        open_archive(registry, "pictures", "1.2", tmp_path / "opened")
