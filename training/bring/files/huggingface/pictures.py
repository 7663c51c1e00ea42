"""Classification of pictures: ``…ForImageClassification``, whose processor does what a worker and a graph can do."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim

from handlers.contract import Array, TensorSpec
from training.bring.files.huggingface.exporting import export
from training.bring.files.huggingface.folder import Folder, library
from training.bring.files.huggingface.scores import PipelineOriginal, Scores, scores_of
from training.bring.graph import BringError, Brought, Intake, first_line
from training.packaging.export import quiet

INPUT = "image"
OTHER_SIZES = ((97, 64), (40, 75))  # width and height of pictures on which the worker's way to pixels is tried
NEAR = 1e-3  # largest difference of a normalized pixel


class PictureModule(nn.Module):
    """A model whose only input is pixels from 0 to 255.

    Args:
        factor: of each pixel, before ``mean`` is taken off and the rest is divided by ``std``, a number a colour each.
    """

    def __init__(self, model: nn.Module, factor: float, mean: Tensor, std: Tensor, scores: Scores) -> None:
        super().__init__()
        self.model, self._factor, self._scores = model, factor, scores
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def pixels(self, image: Tensor) -> Tensor:
        """UINT8 (n, height, width, 3) -> FP32 (n, 3, height, width)."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return ((image.float() * self._factor - mean) / std).permute(0, 3, 1, 2)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """UINT8 (n, height, width, 3) -> the scores."""
        return self._scores.head(self.model(pixel_values=self.pixels(image)))


def read(folder: Folder) -> Brought:
    """Read a classifier of pictures.

    Raises:
        BringError: it cannot be loaded or exported, or its processor does what a worker cannot.
    """
    model = folder.model("AutoModelForImageClassification")
    processor = folder.processor("AutoImageProcessor", "its image processor", backend="pil")
    scores = scores_of(folder, model.config)
    height, width = _size(folder, processor)
    factor, mean, std = _normalization(processor)
    module = PictureModule(model, factor, mean, std, scores).eval()
    _check(folder, processor, module, (width, height))
    draws = np.random.default_rng(0)
    samples = draws.integers(0, 256, (4, height, width, 3), np.uint8)
    samples[0] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]  # from black to white
    description = f"RGB; a file of another size is stretched to {width} x {height}"
    spec = TensorSpec(INPUT, "UINT8", (-1, height, width, 3), description, range=(0, 255))
    shapes = ({0: Dim("batch")},)
    graph = export(folder, module, torch.from_numpy(samples[:2]), shapes, INPUT, scores.outputs)
    pipeline = library().pipeline("image-classification", model=model, image_processor=processor, device="cpu")
    original = PipelineOriginal(pipeline, scores, INPUT, Image.fromarray, top_k=len(scores.labels))
    intake = Intake("image", spec, lambda pixels: pixels, samples)
    return folder.brought(graph, scores.ports(graph), original, intake, scores.classes)


def _size(folder: Folder, processor: Any) -> tuple[int, int]:
    """Return the height and width of a model's pictures, by one that the processor makes."""
    shape = _processed(folder, processor, Image.new("RGB", OTHER_SIZES[0])).shape
    if len(shape) != 3 or shape[0] != 3:
        raise BringError(f"{folder.path}: its image processor makes an array {list(shape)}, and no three colours")
    return int(shape[1]), int(shape[2])


def _normalization(processor: Any) -> tuple[float, Tensor, Tensor]:
    rescales, normalizes = getattr(processor, "do_rescale", False), getattr(processor, "do_normalize", False)
    factor = float(processor.rescale_factor) if rescales else 1.0
    mean = torch.tensor(processor.image_mean if normalizes else 0.0, dtype=torch.float32)
    std = torch.tensor(processor.image_std if normalizes else 1.0, dtype=torch.float32)
    return factor, mean, std


def _check(folder: Folder, processor: Any, module: PictureModule, size: tuple[int, int]) -> None:
    """Raise ``BringError`` unless a worker, which stretches pictures bilinearly, makes the processor's pixels."""
    draws = np.random.default_rng(1)
    for width, height in (size, *OTHER_SIZES):
        picture = Image.fromarray(draws.integers(0, 256, (height, width, 3), np.uint8))
        own = picture.resize(size, Image.Resampling.BILINEAR) if picture.size != size else picture
        pixels = module.pixels(torch.from_numpy(np.array(own)[None]))[0].numpy()
        made = _processed(folder, processor, picture)
        if made.shape != pixels.shape or not np.abs(made - pixels).max() <= NEAR:
            raise BringError(
                f"{folder.path}: its image processor does not make the pixels that a worker makes, which stretches "
                f"each picture to {size[0]} x {size[1]}, bilinearly; one that keeps proportions, crops or resamples "
                "otherwise cannot be imported"
            )


def _processed(folder: Folder, processor: Any, picture: Image.Image) -> Array:
    try:
        with quiet():
            return np.asarray(processor(images=picture, return_tensors="np")["pixel_values"][0])
    except Exception as error:  # a processor raises what its code does
        raise BringError(f"{folder.path}: its image processor fails: {first_line(error)}") from error
