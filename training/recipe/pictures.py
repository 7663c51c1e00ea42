"""A folder of pictures as the data of a recipe: a folder within it for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from handlers.contract import Array, TensorSpec
from handlers.contract.pictures import Picture
from handlers.formats.pictures import FORMATS, decode_image
from handlers.message import InputError
from training.data import DataError, sha256
from training.recipe import Data, Split
from training.recipe.rows import split_rows
from training.recipe.table_models import answer, quietly
from training.recipes._simple_cnn import SimpleCNN

SUFFIXES = frozenset({".jpg", *(f".{name.lower()}" for name in FORMATS.values())})
MOST_FITTED = 2_000  # pictures that the linear baseline learns from
THUMBNAIL = 16  # pixels of a side that it sees, at most


@dataclass(frozen=True)
class PictureFolder:
    """PNG, JPEG, WebP and GIF files, each in the folder of its class; each becomes as large as the network's input.

    Attributes:
        folder: holds a folder for each label, of its name.
        size: height and width.
        colours: whether the network sees red, green and blue; else grey.
        picture: how each is made so large, here and where it is served.
        background: behind the transparent parts, as a contract says it.
    """

    folder: Path
    size: tuple[int, int]
    colours: bool = True
    picture: Picture | None = None
    background: str = "black"

    def load(self, labels: Sequence[str]) -> Data:
        """Read all pictures, which are held in memory, and split them at random.

        Raises:
            DataError: there are none of a label, or one cannot be read.
        """
        files = [(file, i) for i, label in enumerate(labels) for file in picture_files(self.folder / label)]
        target = np.array([label for _, label in files], np.int64)
        shape = (*self.size, 3) if self.colours else self.size
        spec = TensorSpec(
            "image",
            "UINT8",
            (-1, *shape),
            f"{'RGB' if self.colours else 'grey'} pixels",
            range=(0, 255),
            background=self.background,
            picture=self.picture,
        )
        pixels, sums = np.empty((len(files), *shape), np.uint8), []
        for i, (file, _) in enumerate(files):
            content = file.read_bytes()
            pixels[i] = decode(content, spec, file)
            sums.append(f"{file.relative_to(self.folder)} {sha256(content)}")
        rows = Split({"image": pixels}, target)
        train, validation, test = map(rows.part, split_rows(target, len(labels), None, self.folder))
        return Data(train, test, (spec,), sha256("\n".join(sums).encode()), validation)


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in those below it.

    Raises:
        DataError: there are none.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"{folder} has no pictures: {', '.join(sorted(SUFFIXES))}")
    return files


def decode(content: bytes, spec: TensorSpec, file: Path) -> Array:
    """Decode a picture as the handler does.

    Raises:
        DataError: it is damaged, or too large.
    """
    try:
        return decode_image(content, spec, file.name)[0]
    except InputError as error:
        raise DataError(f"{file}: {error.message}: delete it, or replace it by {error.expected}") from error


def picture_network(data: Data, classes: int, channels: tuple[int, ...], dropout: float) -> nn.Module:
    """Build a convolutional network; the scaling of pixels is inside."""
    pixels = data.train.inputs["image"]
    scale = (float(pixels.mean()), float(pixels.std()) or 1.0)
    return SimpleCNN(channels, dropout, scale, classes, colours=pixels.ndim == 4)


def picture_baselines(data: Data, classes: int) -> Mapping[str, Array]:
    """Predict the commonest class, and by a linear model of small copies of the pictures."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    some = data.train.part(np.random.default_rng(0).permutation(len(data.train))[:MOST_FITTED])
    train, test = (_thumbnails(split.inputs["image"]) for split in (some, data.test))
    models = {"majority class": DummyClassifier(), "logistic regression": LogisticRegression(C=0.01, max_iter=100)}
    with quietly():
        return {name: answer(model.fit(train, some.target), test, classes) for name, model in models.items()}


def _thumbnails(pixels: Array) -> Array:
    rows, columns = (max(1, side // THUMBNAIL) for side in pixels.shape[1:3])
    small = pixels[:, ::rows, ::columns]
    return small.reshape(len(small), -1) / np.float32(255)
