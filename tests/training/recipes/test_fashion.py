import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from handlers.contract import Array
from tests.support.training.trainings import load
from training import recipes
from training.data import DataError
from training.recipes import fashion
from training.recipes._simple_cnn import SimpleCNN
from training.recipes.fashion import FashionHyperparameters

recipe = recipes.find("fashion")
HP = FashionHyperparameters(epochs=1, batch_size=4, lr=0.1)
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def idx(values: Array) -> bytes:
    """The IDX format: a magic number and the sizes, four bytes each, then the values."""
    return struct.pack(f">i{values.ndim}i", 0x800 + values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare_machine: None) -> Path:
    """A folder with ten pictures to learn from, the last two for validation, and four to test."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    random = np.random.default_rng(0)
    sums = {}
    for name in fashion.FILES:
        rows = 10 if name.startswith("train") else 4
        shape = (rows, 28, 28) if "images" in name else (rows,)
        content = idx(random.integers(0, 10, shape, np.uint8))
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        sums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fashion, "FILES", sums)
    monkeypatch.setattr(fashion, "VALIDATION", 2)
    return folder


@pytest.fixture
def cache(tiny: Path) -> Path:
    """A cache with these files."""
    (tiny.parent / "cache").mkdir()
    tiny.rename(tiny.parent / "cache" / "fashion-mnist")
    return tiny.parent / "cache"


def network(channels: tuple[int, ...] = (4, 8)) -> SimpleCNN:
    return SimpleCNN(channels, dropout=0.0, scale=(70.0, 90.0), classes=10).eval()


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (15, 33)])
def test_a_global_average_pool_takes_pictures_of_any_size(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    assert network()(image).shape == (3, 10)


@pytest.mark.parametrize("channels", [(4,), (4, 8), (8, 16, 16), (4, 4, 4, 4, 12)])
def test_the_classifier_takes_as_many_inputs_as_there_are_channels_and_not_the_tutorials_32_26_26(
    channels: tuple[int, ...],
) -> None:
    assert network(channels).classifier.in_features == channels[-1]
    assert network(channels)(torch.zeros(2, 28, 28, dtype=torch.uint8)).shape == (2, 10)


def test_normalisation_is_inside_the_network() -> None:
    data = load(recipe)
    module = recipe.module(recipe.preset("smoke"), data)
    pixels = data.train.inputs["image"]
    assert isinstance(module, SimpleCNN)
    assert module.mean.item() == pytest.approx(pixels.mean())
    assert module.std.item() == pytest.approx(pixels.std())


def test_the_published_split_is_kept_and_no_picture_is_in_two_parts() -> None:
    data = load(recipe)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (4_000, 5_000, 10_000)
    parts = [{p.tobytes() for p in s.inputs["image"]} for s in (data.train, data.validation, data.test)]
    train, validation, test = parts
    assert not train & test
    assert not train & validation
    assert np.bincount(data.test.target).tolist() == [1000] * 10


def test_without_a_limit_all_but_the_validation_pictures_are_fitted(cache: Path) -> None:
    data = recipe.load(HP, cache)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 2, 4)


def test_pictures_and_labels_are_read_in_order(cache: Path) -> None:
    content = gzip.decompress((cache / "fashion-mnist" / f"{TEST}.gz").read_bytes())
    split = recipe.load(HP, cache).test
    assert split.inputs["image"].tobytes() == content[16:]
    assert split.inputs["image"].shape == (4, 28, 28)


def test_what_is_not_cached_is_fetched_once(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "ORIGIN", tiny.as_uri())
    first = recipe.load(HP, tmp_path)
    assert sorted(os.listdir(tmp_path / "fashion-mnist")) == sorted(f"{name}.gz" for name in fashion.FILES)
    monkeypatch.setattr(fashion, "ORIGIN", "file:///nonexistent")
    assert recipe.load(HP, tmp_path).sha256 == first.sha256


def test_installed_data_is_used_where_it_is(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tiny)
    assert len(recipe.load(HP, tmp_path / "cache").test) == 4
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("bare_machine")
def test_data_that_cannot_be_had_is_an_error_that_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        recipe.load(HP, tmp_path)
    message = str(error.value)
    assert "debian: this is no Debian; origin: " in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert f"put the four *-ubyte.gz files of {fashion.ORIGIN} into {tmp_path / 'fashion-mnist'}" in message


def damaged_in_the_middle(content: bytes) -> bytes:
    return content[:40] + bytes(byte ^ 255 for byte in content[40:80]) + content[80:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"<html>not found</html>",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        damaged_in_the_middle,
    ],
    ids=["empty", "no gzip", "one byte short", "half", "damaged in the middle"],
)
def test_a_damaged_file_is_an_error_that_names_it(cache: Path, damage: object) -> None:
    assert callable(damage)
    path = cache / "fashion-mnist" / f"{TEST}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}.*: .*delete it"):
        recipe.load(HP, cache)


def test_a_whole_file_with_other_content_is_an_error_that_names_it(cache: Path) -> None:
    path = cache / "fashion-mnist" / f"{TRAIN}.gz"
    path.write_bytes(gzip.compress(b"other pictures"))
    with pytest.raises(DataError, match=f"^{path}, unpacked: its SHA-256 is .*, not {fashion.FILES[TRAIN]}"):
        recipe.load(HP, cache)


def augmented(image: torch.Tensor, **settings: float) -> torch.Tensor:
    torch.manual_seed(0)
    (varied,) = recipe.augment([image], FashionHyperparameters(epochs=1, batch_size=4, lr=0.1, **settings))  # type: ignore[arg-type]
    return torch.as_tensor(varied)


def test_half_of_the_pictures_are_mirrored() -> None:
    image = torch.arange(28, dtype=torch.uint8).expand(400, 28, 28)
    mirrored = (augmented(image) == image.flip(2)).all((1, 2))
    kept = (augmented(image) == image).all((1, 2))
    assert (mirrored | kept).all()
    assert 150 < mirrored.sum() < 250


def test_without_mirroring_pictures_stay_as_they_are() -> None:
    image = torch.arange(28, dtype=torch.uint8).expand(400, 28, 28)
    assert augmented(image, mirror=False).equal(image)


def test_the_tutorials_network_is_one_convolution_with_an_offset_and_a_linear_layer() -> None:
    data = load(recipe)
    module = recipe.module(recipe.preset("tutorial"), data)
    assert isinstance(module, SimpleCNN)
    assert [type(layer) for layer in module.features] == [torch.nn.Conv2d, torch.nn.ReLU]
    assert sum(values.numel() for values in module.parameters()) == 32 * 9 + 32 + 32 * 10 + 10
    assert (module.mean.item(), module.std.item()) == (0, 255)  # pixels between 0 and 1


def test_denoising_takes_a_lone_bright_pixel_down_and_leaves_a_plain_area_as_it_is() -> None:
    smooth = SimpleCNN((1,), 0.0, (0.0, 1.0), 10, plain=True, denoise=True).eval()
    smooth.features = torch.nn.Sequential()  # its answer is then the classifier's of the mean
    seen: list[torch.Tensor] = []
    smooth.features.register_forward_hook(lambda module, inputs, output: seen.append(output[0, 0]))
    image = torch.full((1, 28, 28), 8, dtype=torch.uint8)
    image[0, 14, 14] = 8 + 160
    smooth(image)
    assert seen[0][14, 13:16].tolist() == [8 + 20, 8 + 40, 8 + 20]
    assert seen[0][5, 5] == 8


def test_a_shift_moves_a_picture_by_up_to_that_many_pixels() -> None:
    image = torch.zeros(400, 28, 28, dtype=torch.uint8)
    image[:, 14, 14] = 9
    moved = augmented(image, shift=2).nonzero()  # (400, 3): which picture, row, column
    assert len(moved) == 400
    assert set(moved[:, 1].tolist()) == {12, 13, 14, 15, 16}
    assert set(moved[:, 2].tolist()) <= {11, 12, 13, 14, 15, 16}  # a mirrored one starts at 13


def test_erasing_blanks_a_square_of_at_most_ten_by_ten() -> None:
    image = torch.ones(400, 28, 28, dtype=torch.uint8)
    blank = augmented(image, erase=1.0) == 0
    assert 0 < blank.sum((1, 2)).max() <= 100
    assert blank.any(1).sum(1).max() == 10
    half = (augmented(image, erase=0.5) == 0).any(2).any(1).sum()
    assert 120 < half < 240


def test_few_of_many_layers_halve_the_picture() -> None:
    for layers in (2, 3, 4, 5, 8):
        pools = [m for m in network((4,) * layers).features if isinstance(m, torch.nn.MaxPool2d)]
        assert len(pools) == 2
