"""The way from a picture file of any size to an input that is a picture."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

Resize = Literal["stretch", "shortest", "fit", "none"]
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
FORMER = ("black", "white")  # backgrounds that a contract of the second format could say
BACKGROUNDS = "black, white, #rrggbb, refuse or ignore"
_COLOUR = re.compile("black|white|#[0-9a-fA-F]{6}")
_SEEN = {
    "refuse": ", refused where it is transparent",
    "ignore": ", its transparency ignored",
}


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is done to a picture, the centre of which then becomes the input.

    Attributes:
        resize: ``stretch`` to ``size``; make the ``shortest`` edge of ``size``, or ``fit`` it into the input, both in
            proportion; ``none`` refuses a picture of another size.
        size: height and width to stretch to, or pixels of the shortest edge. None for those of the input.
        resample: the filter, as Pillow names it.
        pad: colour of the part of the input that the picture does not cover.
        rounding: of half a pixel where the centre begins: ``down``, as transformers has it, or to the ``even`` number,
            as torchvision has it.
    """

    resize: Resize = "stretch"
    size: int | tuple[int, int] | None = None
    resample: Resample = "bilinear"
    pad: str = "black"
    rounding: Literal["down", "even"] = "down"

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):  # msgspec leaves out only the very object of a default
            if getattr(self, field.name) == field.default:
                msgspec.structs.force_setattr(self, field.name, field.default)
        right = {"stretch": "height and width", "shortest": "one number"}.get(self.resize, "none")
        given = "none" if self.size is None else "one number" if isinstance(self.size, int) else "height and width"
        if given not in ("none", right):
            raise ValueError(f"picture: resize {self.resize} takes as its size {right}, not {self.size}")
        sizes = self.size if isinstance(self.size, tuple) else () if self.size is None else (self.size,)
        if any(pixels < 1 for pixels in sizes):
            raise ValueError(f"picture: size {self.size} must be positive")
        if not _COLOUR.fullmatch(self.pad):
            raise ValueError(f"picture: pad {self.pad!r} must be black, white or #rrggbb")


def is_background(text: str) -> bool:
    """Tell whether a contract may say this of transparency."""
    return bool(_COLOUR.fullmatch(text)) or text in _SEEN


def describe(picture: Picture, sizes: Sequence[int], background: str) -> str:
    """Return words for what happens to a picture file.

    Args:
        sizes: height and width of the input.
    """
    wanted = f"{sizes[1]} x {sizes[0]}"
    size = picture.size if isinstance(picture.size, tuple) else sizes
    edge = picture.size if isinstance(picture.size, int) else min(sizes)
    centre = f", of which the middle {wanted} is taken"
    how = {
        "stretch": f"stretched to {size[1]} x {size[0]} ({picture.resample})" + centre * (tuple(size) != tuple(sizes)),
        "shortest": f"its shortest edge made {edge} ({picture.resample}){centre}",
        "fit": f"made to fit into {wanted} ({picture.resample}), the rest {picture.pad}",
        "none": f"of {wanted}",
    }[picture.resize]
    seen = "" if background == "black" else f", on {background}"
    return f"a picture, {how}{_SEEN.get(background, seen)}"
