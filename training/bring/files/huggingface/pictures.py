"""Classification of pictures: ``…ForImageClassification``, whose processor does what a contract can say."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim

from training.bring.files.huggingface.exporting import export
from training.bring.files.huggingface.folder import Folder, library
from training.bring.files.huggingface.processing import INPUT, Processing, processing_of, without_resizing
from training.bring.files.huggingface.scores import PipelineOriginal, Scores, scores_of
from training.bring.graph import Brought, Intake


class PictureModule(nn.Module):
    """A model whose only input is pixels from 0 to 255."""

    def __init__(self, model: nn.Module, processing: Processing, scores: Scores) -> None:
        super().__init__()
        self.model, self._order, self._scores = model, list(processing.order), scores
        self.register_buffer("factor", torch.tensor(processing.factor, dtype=torch.float32))
        self.register_buffer("offset", torch.tensor(processing.offset, dtype=torch.float32))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """UINT8 (n, height, width, 3) -> the scores."""
        image = image if self._order == [0, 1, 2] else image[..., self._order]
        values = image.float() * self.get_buffer("factor") + self.get_buffer("offset")
        return self._scores.head(self.model(pixel_values=values.permute(0, 3, 1, 2)))


def read(folder: Folder) -> Brought:
    """Read a classifier of pictures.

    Raises:
        BringError: it cannot be loaded or exported, or its processor does what a worker cannot.
    """
    model = folder.model("AutoModelForImageClassification")
    processor = folder.processor("AutoImageProcessor", "its image processor", backend="pil")
    scores = scores_of(folder, model.config)
    processing = processing_of(folder, processor)
    module = PictureModule(model, processing, scores).eval()
    draws = np.random.default_rng(0)
    height, width, _ = processing.spec.shape[1:]
    samples = draws.integers(0, 256, (4, height, width, 3), np.uint8)
    samples[0] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]  # from black to white
    shapes = ({0: Dim("batch")},)
    graph = export(folder, module, torch.from_numpy(samples[:2]), shapes, INPUT, scores.outputs)
    sized = without_resizing(processor)
    pipeline = library().pipeline("image-classification", model=model, image_processor=sized, device="cpu")
    original = PipelineOriginal(pipeline, scores, INPUT, Image.fromarray, top_k=len(scores.labels))
    intake = Intake("image", processing.spec, lambda pixels: pixels, samples)
    return folder.brought(graph, scores.ports(graph), original, intake, scores.classes)
