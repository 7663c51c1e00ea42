"""Ten kinds of clothing in 28×28 grey pictures: a small convolutional network on Fashion-MNIST.

make train MODEL=fashion                # preset quick
make train MODEL=fashion PRESET=full
"""

import gzip
import shutil
import subprocess
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from handlers.contract import TensorSpec
from training.data import DataError, check_sha256, sha256
from training.recipe import Array, Data, Hyperparameters, Recipe, Split

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
ORIGIN = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
# Of the unpacked files: the packages compress them differently.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
VALIDATION = 5_000  # of the 60,000 training pictures, the last ones


@dataclass(frozen=True)
class FashionHyperparameters(Hyperparameters):
    """Adds the network's size, regularisation and augmentation."""

    channels: tuple[int, ...] = (16, 32, 64, 64)
    dropout: float = 0.1
    shift: int = 0  # pixels that a picture moves at most, in both directions
    erase: float = 0.0  # probability that a 10×10 square of a picture is blanked (Zhong et al. 2017)
    rows: int | None = None  # of the training data; None: all


class SimpleCNN(nn.Module):
    """Convolutions, global average pool, one linear layer.

    The pool leaves one number a channel, so the linear layer takes as many inputs as there are channels, whatever the
    picture's size: the common tutorial's 32·26·26 fails there.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: tuple[int, ...], dropout: float, mean: float, std: float, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        layers: list[nn.Module] = []
        before = 1
        for i, after in enumerate(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if i in _pools(len(channels)) else []
            before = after
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(before, classes)

    def forward(self, image: Tensor) -> Tensor:
        """UINT8 (n, 28, 28) pixels -> FP32 (n, classes) logits."""
        x = (image.float() - self.mean) / self.std
        x = self.features(x[:, None].to(memory_format=torch.channels_last))  # (n, channels, 7, 7)
        return self.classifier(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


class Fashion(Recipe[FashionHyperparameters]):
    """Classification of clothing."""

    name = "fashion"
    task = "classification"
    description = "ten kinds of clothing in 28×28 grey pictures"
    labels = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    entry_point = "image"
    presets: ClassVar[Mapping[str, FashionHyperparameters]] = {
        "quick": FashionHyperparameters(
            epochs=5,
            batch_size=256,
            lr=0.02,
            schedule="one_cycle",  # a short run profits most from a high rate that then falls to nothing
            weight_decay=5e-4,
        ),
        "full": FashionHyperparameters(
            epochs=35,
            batch_size=256,
            lr=0.01,
            schedule="one_cycle",
            weight_decay=1e-2,
            channels=(32, 64, 128, 128),
            dropout=0.2,
            shift=2,
            erase=0.5,
        ),
        # For tests: it learns something in seconds.
        "smoke": FashionHyperparameters(epochs=1, batch_size=64, lr=0.01, channels=(8, 16, 16), rows=4_000),
    }

    def load(self, hp: FashionHyperparameters, cache: Path) -> Data:
        """The published split of 60,000 and 10,000, the last 5,000 of the former for validation."""
        folder = _folder(cache / "fashion-mnist")
        files = {
            name: check_sha256(_read(folder, name), expected, f"{folder / name}.gz, unpacked")
            for name, expected in FILES.items()
        }
        train = _split(files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"])
        test = _split(files["t10k-images-idx3-ubyte"], files["t10k-labels-idx1-ubyte"])
        fit = train.head(min(len(train) - VALIDATION, hp.rows or len(train)))
        validation = Split({"image": train.inputs["image"][-VALIDATION:]}, train.target[-VALIDATION:])
        spec = TensorSpec("image", "UINT8", (-1, 28, 28), "white on black, one byte a pixel", range=(0, 255))
        return Data(fit, test, (spec,), sha256(*files.values()), validation)

    def module(self, hp: FashionHyperparameters, data: Data) -> nn.Module:
        """A plain convolutional network; normalisation is inside."""
        pixels = data.train.inputs["image"]
        return SimpleCNN(hp.channels, hp.dropout, float(pixels.mean()), float(pixels.std()), len(self.labels))

    def augment(self, inputs: list[Tensor], hp: FashionHyperparameters) -> list[Tensor]:
        """Mirror half of the pictures, move each by up to ``shift`` pixels, blank a square of some."""
        (image,) = inputs
        image = torch.where(torch.rand(len(image), 1, 1) < 0.5, image.flip(2), image)
        image = _shift(image, hp.shift) if hp.shift else image
        return [_erase(image, hp.erase) if hp.erase else image]

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """The commonest class, and a linear classifier on the pixels."""
        train, test = (split.inputs["image"].reshape(len(split), -1) / 255 for split in (data.train, data.test))
        # A fifth of the pictures is enough for a linear model and saves memory.
        models = {"majority class": DummyClassifier(), "ridge classifier": RidgeClassifier()}
        votes = {name: model.fit(train[::5], data.train.target[::5]).predict(test) for name, model in models.items()}
        return {name: np.eye(len(self.labels), dtype=np.float32)[vote] for name, vote in votes.items()}


def _pools(layers: int) -> tuple[int, int]:
    """After which layers the picture is halved: twice, early, since most of the time goes into large pictures."""
    return (0, 1) if layers < 5 else (1, 3)


def _shift(image: Tensor, most: int) -> Tensor:
    n, height, width = image.shape
    padded = nn.functional.pad(image, (most,) * 4)
    rows = torch.randint(0, 2 * most + 1, (n, 1)) + torch.arange(height)  # (n, 28)
    columns = torch.randint(0, 2 * most + 1, (n, 1)) + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _erase(image: Tensor, probability: float, size: int = 10) -> Tensor:
    n, height, width = image.shape

    def inside(length: int) -> Tensor:
        start = torch.randint(-size // 2, length, (n, 1))
        position = torch.arange(length)
        return (position >= start) & (position < start + size)  # (n, length)

    square = inside(height)[:, :, None] & inside(width)[:, None, :]
    return image.masked_fill(square & (torch.rand(n, 1, 1) < probability), 0)


def _split(images: bytes, labels: bytes) -> Split:
    """Read the IDX format: a header of 16 and of 8 bytes, then one byte a value."""
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return Split({"image": pixels}, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))


def _read(folder: Path, name: str) -> bytes:
    try:
        return gzip.decompress((folder / f"{name}.gz").read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{folder / name}.gz is damaged ({error}): delete it and run the command again") from error


def _folder(cache: Path) -> Path:
    """Where the four files are: installed, cached, or fetched now from Debian or from their origin."""
    for folder in (Path("/") / DEBIAN_FOLDER, cache):
        if all((folder / f"{name}.gz").is_file() for name in FILES):
            return folder
    cache.mkdir(parents=True, exist_ok=True)
    problems = []
    for fetch in (_fetch_debian, _fetch_origin):
        try:
            fetch(cache)
            return cache
        except (OSError, subprocess.SubprocessError, urllib.error.URLError) as error:
            problems.append(f"{fetch.__name__.removeprefix('_fetch_')}: {error}")
    raise DataError(
        f"Fashion-MNIST is not here and could not be fetched ({'; '.join(problems)}). Either run "
        f"`apt-get install {DEBIAN_PACKAGE}`, or put the four *-ubyte.gz files of {ORIGIN} into {cache}."
    )


def _fetch_debian(cache: Path) -> None:
    """Download Debian's package and unpack it; needs no root, but a list of packages."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise OSError("this is no Debian")
    work = cache / "debian"
    shutil.rmtree(work, ignore_errors=True)
    lists = ["-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User="]
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    for command in (["update"], ["download", DEBIAN_PACKAGE]):
        subprocess.run(["apt-get", "-qq", *lists, *command], cwd=work, check=True, capture_output=True, timeout=300)
    (package,) = work.glob("*.deb")
    subprocess.run(["dpkg", "-x", package.name, "."], cwd=work, check=True, capture_output=True, timeout=60)
    for name in FILES:
        (work / DEBIAN_FOLDER / f"{name}.gz").replace(cache / f"{name}.gz")
    shutil.rmtree(work)


def _fetch_origin(cache: Path) -> None:
    for name in FILES:
        with urllib.request.urlopen(f"{ORIGIN}/{name}.gz", timeout=30) as response:
            partial = cache / f"{name}.gz.partial"
            partial.write_bytes(response.read())
        partial.replace(cache / f"{name}.gz")


recipe = Fashion()
