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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from training.data import DataError, check_sha256, sha256
from training.recipe import Data, Hyperparameters, Recipe, Serving, Split
from training.recipes._simple_cnn import SimpleCNN

if TYPE_CHECKING:
    from optuna import Trial

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")
ORIGIN = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FILES = {  # SHA-256 of the unpacked files: the packages compress them differently
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
VALIDATION = 5_000  # the last of the 60,000 training pictures


@dataclass(frozen=True)
class FashionHyperparameters(Hyperparameters):
    """The network's size, regularisation and augmentation beside the common hyperparameters."""

    channels: tuple[int, ...] = (16, 32, 64, 64)
    plain: bool = False  # the tutorial's network: nothing between the convolutions
    dropout: float = 0.1
    standardise: bool = True  # pixels with mean 0 and standard deviation 1; else between 0 and 1
    denoise: bool = False  # smooth the pictures, when served too
    mirror: bool = True  # mirror half of the training pictures
    shift: int = 0  # most pixels that a picture moves, in both directions
    erase: float = 0.0  # probability that a 10×10 square of a picture is blanked (Zhong et al. 2017)
    rows: int | None = None  # training pictures; None: all


PLAIN: dict[str, Any] = {"dropout": 0.0, "standardise": False, "mirror": False}  # no practice of `ablate`


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
    # A picture or 1,024 rows may weigh as much as a body may, and a batch costs the frontend its square.
    serving = Serving(batch_size=16)
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
        # The common tutorial, made to work.
        "tutorial": FashionHyperparameters(epochs=10, batch_size=64, lr=1e-3, channels=(32,), plain=True, **PLAIN),
        # Its training of quick's network, for practices whose effect the tutorial's small network cannot show.
        "tutorial-deep": FashionHyperparameters(epochs=10, batch_size=64, lr=1e-3, **PLAIN),
    }
    starts: ClassVar[Mapping[str, str]] = {
        "tutorial": "The tutorial's SimpleCNN, one convolution and a global average pool: 650 parameters that see how "
        "much of each 3×3 pattern a picture has, not where. Fitted and held-out pictures do equally badly: it learns "
        "too little, so that regularisation has nothing to mend.",
        "tutorial-deep": "The tutorial's training of four convolutions with batch normalisation, the network of "
        "`quick`: large enough to learn more of these pictures than holds for others.",
    }

    def load(self, hp: FashionHyperparameters, cache: Path) -> Data:
        """Load the published split of 60,000 and 10,000, the last 5,000 of the former for validation."""
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
        """Build a convolutional network; normalisation is inside."""
        pixels = data.train.inputs["image"]
        mean, std = (float(pixels.mean()), float(pixels.std())) if hp.standardise else (0.0, 255.0)
        classes = len(self.labels)
        return SimpleCNN(hp.channels, hp.dropout, (mean, std), classes, plain=hp.plain, denoise=hp.denoise)

    def space(self, trial: "Trial", hp: FashionHyperparameters) -> FashionHyperparameters:
        """Suggest also dropout, label smoothing and augmentation: all that leaves the time of a step as it is."""
        return replace(
            super().space(trial, hp),
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
            label_smoothing=trial.suggest_float("label_smoothing", 0.0, 0.2),
            shift=trial.suggest_int("shift", 0, 3),
            erase=trial.suggest_float("erase", 0.0, 0.6),
        )

    def augment(self, inputs: list[Tensor], hp: FashionHyperparameters) -> list[Tensor]:
        """Mirror half of the pictures, move each by up to ``shift`` pixels, blank a square of some."""
        (image,) = inputs
        image = torch.where(torch.rand(len(image), 1, 1) < 0.5, image.flip(2), image) if hp.mirror else image
        image = _shift(image, hp.shift) if hp.shift else image
        return [_erase(image, hp.erase) if hp.erase else image]

    def smaller(self, hp: FashionHyperparameters) -> FashionHyperparameters:
        """Halve the channels, for a quarter of the arithmetic; so few weights need no dropout."""
        return replace(hp, channels=tuple(max(4, width // 2) for width in hp.channels), dropout=0.0)

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict the commonest class, and by a linear classifier on the pixels."""
        train, test = (split.inputs["image"].reshape(len(split), -1) / 255 for split in (data.train, data.test))
        # A fifth of the pictures is enough for a linear model and saves memory.
        models = {"majority class": DummyClassifier(), "ridge classifier": RidgeClassifier()}
        votes = {name: model.fit(train[::5], data.train.target[::5]).predict(test) for name, model in models.items()}
        return {name: np.eye(len(self.labels), dtype=np.float32)[vote] for name, vote in votes.items()}


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
    """Return the folder of the four files: installed, cached, or fetched now from Debian or from their origin."""
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
