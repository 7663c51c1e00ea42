"""Recipes of pictures and of texts: written, trained, and answered from their archives."""

from pathlib import Path

import numpy as np
import pandas
import pytest

from handlers.contract.pictures import Picture
from handlers.engine import load_engine
from handlers.formats.image import ImageCodec
from handlers.formats.pictures import encode_png
from handlers.formats.text import TextCodec
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from serving import archive
from serving.settings import Folders
from tests.support.handlers.models import contract
from tests.training.conftest import Commands
from tests.training.recipe.conftest import gain
from training import pipeline, recipes
from training.packaging.registration import Result, TrainOptions
from training.recipe.pictures import PictureFolder

COLOURS = {"cats": (200, 60, 60), "dogs": (60, 60, 200), "owls & co": (60, 200, 60)}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Pictures of noise on three colours."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pets"
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for i in range(25):
            pixels = rng.integers(0, 100, (20 + i % 3, 24, 3)) + np.array(colour) // 2
            (folder / label / f"{i}.png").write_bytes(encode_png(pixels))
    return folder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Texts in which one word tells the mood."""
    rng = np.random.default_rng(0)
    words = {"good": "great lovely wonderful best".split(), "bad": "awful terrible worst sad".split()}  # noqa: SIM905
    rows = []
    for i in range(300):
        mood = ("good", "bad")[i % 2]
        text = [*rng.choice(["the", "film", "a", "story", "actor", "very", "it"], 9), rng.choice(words[mood])]
        rows.append(
            {"review": " ".join(rng.permutation(text)) + ", café!", "mood": mood, "length": -2.5 * len(text[-1])}
        )
    path = tmp_path / "reviews.csv"
    pandas.DataFrame(rows).to_csv(path, index=False, sep="\t", encoding="latin-1")
    return path


def trained(name: str, training: Commands, folder: Path) -> Result:
    """The first version, whose metric is better than that of the commonest class."""
    folders = Folders(folder / "cache", folder / "runs")
    result = pipeline.train(recipes.find(name), training.registry, folders, TrainOptions())
    assert gain(result) > 0.2
    archive.unpack(result.archive, folder / "unpacked")
    return result


def test_a_folder_of_pictures_becomes_a_model(training: Commands, folder: Path, pets: Path, tmp_path: Path) -> None:
    (pets / ".hidden").mkdir()
    code, output = training("new", "pets", "--from-image-folder", str(pets))
    assert code == 0, output
    assert (
        "pets: 75 pictures (cats 25, dogs 25, owls & co 25)\n21×24 pixels, colours, to which each is made\n" in output
    )
    source = (folder / "pets.py").read_text()
    assert source.count("\n") < 60
    assert 'labels = ("cats", "dogs", "owls & co")' in source
    result = trained("pets", training, tmp_path)
    unpacked, contract = tmp_path / "unpacked", result.contract
    handler = ModelHandler(contract, load_engine("onnxruntime", unpacked, contract, 1), ImageCodec(contract, 1024))
    body = (pets / "owls & co" / "3.png").read_bytes()
    (response,) = handler.handle([Request(body, {"content-type": "image/png"}, id="r")])
    assert b'"label":"owls & co"' in response.body


def test_pictures_that_cannot_be_learned_from_are_refused(
    training: Commands, folder: Path, pets: Path, tmp_path: Path
) -> None:
    def refusal(path: Path) -> str:
        code, output = training("new", "pets", "--from-image-folder", str(path))
        assert code == 1
        assert list(folder.iterdir()) == []
        return output

    assert "is no folder" in refusal(tmp_path / "nowhere")
    assert "has 0 folders; each is a class, and there must be 2 to 100" in refusal(pets / "cats")
    (pets / "empty").mkdir()
    assert "empty has no pictures: .gif, .jpeg, .jpg, .png, .webp" in refusal(pets)
    (pets / "empty").rmdir()
    (pets / "cats" / "0.png").write_bytes(b"no picture")
    assert "0.png: the bytes are no PNG, JPEG, WebP or GIF: delete it" in refusal(pets)
    for path in pets.glob("*/[1-9]*.png"):
        path.unlink()
    assert "has 3 pictures; at least 50 are needed" in refusal(pets)


def test_grey_pictures_stay_grey(pets: Path) -> None:
    data = PictureFolder(pets, (8, 10), colours=False).load(tuple(COLOURS))
    assert data.inputs[0].shape == (-1, 8, 10)
    assert data.train.inputs["image"].shape == (52, 8, 10)


def test_pictures_are_served_as_they_are_trained_on(pets: Path) -> None:
    picture = Picture("fit", resample="bicubic", pad="white")
    data = PictureFolder(pets, (8, 10), picture=picture, background="ignore").load(tuple(COLOURS))
    (spec,) = data.inputs
    assert (spec.picture, spec.background) == (picture, "ignore")
    codec = ImageCodec(contract(spec), 8)
    served = [
        codec.decode(Request(file.read_bytes(), {"content-type": "image/png"}, id="r")).tensors["image"][0]
        for file in pets.rglob("*.png")
    ]
    trained_on = np.concatenate([split.inputs["image"] for split in (data.train, data.validation, data.test) if split])
    assert sorted(pixels.tobytes() for pixels in served) == sorted(pixels.tobytes() for pixels in trained_on)


def test_a_table_of_texts_becomes_a_model(training: Commands, folder: Path, reviews: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")
    options = ("--from-text-csv", str(reviews), "--text", "review")
    code, output = training("new", "mood", *options, "--target", "mood")
    assert code == 0, output
    assert "reviews.csv: 300 texts, of up to 32 words and signs; more are cut off\n" in output
    assert (folder / "mood.py").read_text().count("\n") < 60
    result = trained("mood", training, tmp_path)
    unpacked, contract = tmp_path / "unpacked", result.contract
    engine = load_engine("onnxruntime", unpacked, contract, 1)
    handler = ModelHandler(contract, engine, TextCodec.open(unpacked, contract, 1024))
    bodies = (b'{"review": "A GREAT film"}', b'{"review": "the story is awful, terrible"}', b'{"review": "great"}')
    responses = handler.handle([Request(body, {"content-type": JSON}, id="r") for body in bodies])
    labels = [b'"label":"good"' in response.body for response in responses]
    assert [response.status for response in responses] == [200, 200, 200]
    assert labels == [True, False, True]
    assert (
        "'words' of texts"
        in training("new", "m", "--from-text-csv", str(reviews), "--text", "words", "--target", "mood")[1]
    )
    assert training("new", "size", *options, "--target", "length")[0] == 0
    assert recipes.find("size").task == "regression"
