"""The convolutional network of the `fashion` recipe, down to the one of the common tutorial."""

import torch
from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """Convolutions, global average pool, one linear layer.

    The pool leaves one number a channel, so the linear layer takes as many inputs as there are channels, whatever the
    picture's size: the common tutorial's 32·26·26 fails there.

    Args:
        channels: number for each convolution.
        dropout: probability that a number is left out before the linear layer, while training.
        scale: mean that is subtracted from a pixel, and standard deviation that it is divided by.
        plain: nothing between the convolutions, as in the tutorial; else normalisation, and the picture halved twice.
        denoise: smooth the picture first.
        colours: whether pictures have three; those are not smoothed.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: tuple[int, ...],
        dropout: float,
        scale: tuple[float, float],
        classes: int,
        *,
        plain: bool = False,
        denoise: bool = False,
        colours: bool = False,
    ) -> None:
        super().__init__()
        for name, value in zip(("mean", "std"), scale, strict=True):
            self.register_buffer(name, torch.tensor(value))
        layers: list[nn.Module] = []
        before = 3 if colours else 1
        for i, after in enumerate(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=plain)]
            layers += [nn.ReLU()] if plain else [nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if not plain and i in _pools(len(channels)) else []
            before = after
        self.denoise, self.colours = denoise, colours
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(before, classes)

    def forward(self, image: Tensor) -> Tensor:
        """UINT8 (n, 28, 28) or (n, 28, 28, 3) pixels -> FP32 (n, classes) logits."""
        pixels = image.float()
        x = ((_smooth(pixels) if self.denoise else pixels) - self.mean) / self.std
        x = x.permute(0, 3, 1, 2) if self.colours else x[:, None]
        x = self.features(x.to(memory_format=torch.channels_last))  # (n, channels, 7, 7)
        return self.classifier(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


def _smooth(image: Tensor) -> Tensor:
    """Weigh each pixel with its neighbours by (1, 2, 1)/4 both ways: two means over 2×2, one step apart."""
    once = nn.functional.avg_pool2d(image[:, None], 2, stride=1, padding=1)  # (n, 1, 29, 29)
    return nn.functional.avg_pool2d(once, 2, stride=1)[:, 0]


def _pools(layers: int) -> tuple[int, int]:
    """Return the layers after which the picture is halved: early, since large pictures take most of the time."""
    return (0, 1) if layers < 5 else (1, 3)
