"""What an image processor of transformers does to pictures, as a contract and a graph say it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from handlers.contract import Array, TensorSpec
from handlers.contract.pictures import Picture
from handlers.formats.pictures import decode_image, encode_png
from training.bring.files.huggingface.folder import Folder
from training.bring.graph import BringError, first_line
from training.packaging.export import quiet

INPUT = "image"
SIZES = ((97, 64), (40, 75), (33, 33), (301, 200), (150, 211))  # width and height of pictures that are tried
NEAR = 1e-3  # largest difference of a value that a model gets: a step of a pixel is more
LEVIT = 224 / 256  # share of the shortest edge that is left, which LeViT's processor does not say
_RESIZING = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_pad")


@dataclass(frozen=True)
class Processing:
    """The way of a processor from a picture to a model's values.

    Attributes:
        spec: the contract's input.
        order: for each of the model's channels the colour, 0 for red.
        factor: of a pixel for each channel, to which ``offset`` is added.
    """

    spec: TensorSpec
    order: tuple[int, ...]
    factor: tuple[float, ...]
    offset: tuple[float, ...]

    def values(self, pixels: Array) -> Array:
        """UINT8 (height, width, 3) -> FP32 (3, height, width)."""
        factor, offset = np.array(self.factor, np.float32), np.array(self.offset, np.float32)
        return np.moveaxis(pixels[..., self.order] * factor + offset, 2, 0)


def processing_of(folder: Folder, processor: Any) -> Processing:
    """Find the declaration of a contract by which a worker makes a processor's pixels.

    Raises:
        BringError: there is none; names the processor's settings.
    """
    noise = np.random.default_rng(1)
    pictures = [noise.integers(0, 256, (height, width, 3), np.uint8) for width, height in SIZES]
    made = [_processed(folder, processor, picture) for picture in pictures]
    shapes = {values.shape for values in made}
    if len(shapes) > 1 or len(made[0].shape) != 3 or len(made[0]) != 3:
        texts = " and ".join(sorted(str([*shape]) for shape in shapes)[:2])
        raise BringError(
            f"{folder.path}: its image processor makes {texts} of pictures, and a contract has [3, height, width]: "
            f"{_settings(processor)}"
        )
    arithmetic = _arithmetic(folder, processor, SIZES[2])
    for picture in _candidates(processor):
        shape = (-1, *made[0].shape[1:], 3)
        spec = TensorSpec(INPUT, "UINT8", shape, "RGB", range=(0, 255), background="ignore", picture=picture)
        processing = Processing(spec, *arithmetic)
        own = (processing.values(decode_image(encode_png(each), spec, INPUT)[0]) for each in pictures)
        if all(np.abs(values - right).max() <= NEAR for values, right in zip(own, made, strict=True)):
            return processing
    raise BringError(f"{folder.path}: no contract can say what its image processor does: {_settings(processor)}")


def without_resizing(processor: Any) -> Any:
    """Make a processor take pictures that have the model's size already."""
    processor.do_resize = processor.do_center_crop = False
    return processor


def _candidates(processor: Any) -> Iterator[Picture]:
    """Yield what a processor of such settings may do."""
    if not processor.do_resize:
        return
    resample: Any = Image.Resampling(int(processor.resample)).name.lower()
    yield Picture(resample=resample)
    size = processor.size
    if size.height and size.width:
        yield Picture(size=(size.height, size.width), resample=resample)
    for edge in filter(None, (size.shortest_edge, size.height)):
        for share in (1, getattr(processor, "crop_pct", None) or LEVIT, LEVIT):
            yield Picture("shortest", int(edge / share), resample)


def _arithmetic(folder: Folder, processor: Any, size: tuple[int, int]) -> tuple[tuple[Any, ...], ...]:
    """Return order, factor and offset of the channels, by pictures of one colour."""

    def channels(colour: tuple[int, ...]) -> Array:
        values = _processed(folder, processor, np.full((*size, 3), colour, np.uint8))
        return values[:, values.shape[1] // 2, values.shape[2] // 2].astype(np.float64)

    black = channels((0, 0, 0))
    slopes = np.stack([channels(colour) - black for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]) / 255
    order = np.abs(slopes).argmax(0)
    factor = slopes[order, np.arange(3)]
    return tuple(map(int, order)), tuple(map(float, factor)), tuple(map(float, black))


def _processed(folder: Folder, processor: Any, pixels: Array) -> Array:
    try:
        with quiet():
            return np.asarray(processor(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"][0])
    except Exception as error:  # a processor raises what its code does
        raise BringError(f"{folder.path}: its image processor fails: {first_line(error)}") from error


def _settings(processor: Any) -> str:
    values = {name: getattr(processor, name, None) for name in _RESIZING}
    texts = [
        f"{name} {dict(value) if isinstance(value, Iterable) else int(value) if name == 'resample' else value}"
        for name, value in values.items()
        if value is not None
    ]
    return ", ".join([type(processor).__name__.removesuffix("Pil"), *texts])
