"""Pictures of several formats to pixels: upright, opaque, grey or RGB, of the model's size."""

import base64
import contextlib
import io
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps

from handlers.contract import Array, TensorSpec
from handlers.contract.pictures import Picture
from handlers.message import InputError

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
NAMES = "PNG, JPEG, WebP or GIF"
MAX_PIXELS = 25_000_000  # before decoding: a small file can claim to be a huge picture
MOST_OBLONG = 20  # times that a picture may be as long as wide where it keeps its proportions: a line becomes huge
_MODES = {3: "L", 4: "RGB"}  # by the axes of the input
_ORIENTED = ("exif", "xmp", "Raw profile type exif")  # where a file says how the camera was held
_STARTS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_BITS = {"L;2": 2, "L;4": 4}  # of a grey PNG, by Pillow's name of its rows


def sniff(body: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for other formats."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in _STARTS.items() if body.startswith(start)), "")


def decode_image(body: bytes, spec: TensorSpec, where: str, most: int = MAX_PIXELS) -> tuple[Array, int]:
    """Decode a picture as its contract says; of several frames the first.

    Args:
        spec: an input of shape ``(-1, height, width)`` for grey or ``(-1, height, width, 3)`` for RGB.
        where: name of the source in errors.
        most: most pixels.

    Returns:
        UINT8 of the shape of a row, 0 to 255, upright by its EXIF; and the number of pixels in the file.

    Raises:
        InputError: no picture, damaged, of more pixels, or one that the contract refuses.
    """
    if not sniff(body):
        raise InputError("invalid_image", f"the bytes are no {NAMES}", where, f"a {NAMES} file")
    try:
        image: Image.Image = Image.open(io.BytesIO(body), formats=list(FORMATS.values()))
        pixels = image.width * image.height
        if pixels > most:
            size = f"the image has {image.width} x {image.height} pixels"
            raise InputError("image_too_large", size, where, f"at most {MAX_PIXELS} pixels in a request")
        image = _opaque(_upright(image), _MODES[len(spec.shape)], spec.background, where)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where those are errors
        bomb = "the image is a decompression bomb"
        raise InputError("image_too_large", bomb, where, f"at most {MAX_PIXELS} pixels") from None
    except InputError:
        raise
    except Exception:  # decoders raise any error on hostile bytes
        damaged = f"the image of {len(body)} bytes is damaged, or cut off"
        raise InputError("invalid_image", damaged, where, f"a whole {NAMES} file") from None
    return np.asarray(_resized(image, spec, where), np.uint8), pixels


def encode_png(pixels: ArrayLike) -> bytes:
    """Return a PNG file of pixels from 0 to 255, ``(height, width)`` or ``(height, width, 3)``."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def png_address(pixels: ArrayLike) -> str:
    """Return a picture as a ``data:`` address for a page."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"


def _upright(image: Image.Image) -> Image.Image:
    """Load a picture and turn it by its EXIF."""
    # Loading forgets the number of bits of a value in the file.
    tiles: list[Any] = getattr(image, "tile", [])
    rawmode = tiles[0][3] if image.format == "PNG" and tiles else ""
    image.load()  # broken pixels are an error
    if "transparency" in image.info and image.mode != "P":
        image = _with_alpha(image, str(rawmode))
    if any(key in image.info for key in _ORIENTED):
        with contextlib.suppress(Exception):  # EXIF that cannot be read says nothing
            ImageOps.exif_transpose(image, in_place=True)
    return image


def _with_alpha(image: Image.Image, rawmode: str) -> Image.Image:
    """Make a PNG's transparent grey or colour so, which Pillow compares with values of other bits."""
    key = image.info["transparency"]
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if isinstance(key, int):
        clear = values == key * 255 // ((1 << _BITS[rawmode]) - 1) if rawmode in _BITS else values == key
    else:
        clear = (values == [value >> 8 if "16" in rawmode else value for value in key]).all(-1)
    grey = (values >> 8).astype(np.uint8) if image.mode == "I;16" else values
    opaque = Image.fromarray(grey)
    opaque.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    opaque.info = {key: image.info[key] for key in _ORIENTED if key in image.info}
    return opaque


def _opaque(image: Image.Image, mode: str, background: str, where: str) -> Image.Image:
    """Put a picture on its background, so that the colours of clear parts do not count, unless the contract says so."""
    if image.mode == "I;16":  # convert would clip 16 bits of grey to 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert(mode)
    image = image.convert("RGBA")
    if background == "ignore":
        return image.convert(mode)
    alpha = image.getchannel("A")
    if background == "refuse":
        if alpha.getextrema() != (255, 255):
            raise InputError("invalid_image", "the image has transparent parts", where, "an opaque image")
        return image.convert(mode)
    ground = Image.new(mode, image.size, background)
    ground.paste(image.convert(mode), mask=alpha)
    return ground


def _resized(image: Image.Image, spec: TensorSpec, where: str) -> Image.Image:
    """Make a picture as large as the input; a size that varies stays the picture's own."""
    height, width = (own if size == -1 else size for own, size in zip(image.size[::-1], spec.shape[1:3], strict=True))
    if height > spec.largest[0] or width > spec.largest[1]:
        size = f"the image has {image.width} x {image.height} pixels"
        raise InputError("wrong_shape", size, where, f"at most {spec.largest[1]} x {spec.largest[0]} pixels")
    picture = spec.picture or Picture()
    target = _target(image.size, (width, height), picture, where)
    if image.size != target:
        image = image.resize(target, Image.Resampling[picture.resample.upper()])
    return image if target == (width, height) else _centre(image, (width, height), picture)


def _target(own: tuple[int, int], wanted: tuple[int, int], picture: Picture, where: str) -> tuple[int, int]:
    """Return the width and height that a picture is resized to.

    Args:
        own: width and height of the picture; ``wanted`` those of the input.

    Raises:
        InputError: the contract refuses this size.
    """
    size = f"the image has {own[0]} x {own[1]} pixels"
    if picture.resize == "none" and own != wanted:
        raise InputError("wrong_shape", size, where, f"an image of {wanted[0]} x {wanted[1]} pixels")
    if picture.resize in ("stretch", "none"):
        return (picture.size[1], picture.size[0]) if isinstance(picture.size, tuple) else wanted
    short, long = sorted(own)
    if long > MOST_OBLONG * short:
        raise InputError("invalid_image", size, where, f"an image at most {MOST_OBLONG} times as long as wide")
    if picture.resize == "shortest":
        edge = picture.size if isinstance(picture.size, int) else min(wanted)
        rest = int(edge * long / short)
        return (edge, rest) if own[0] <= own[1] else (rest, edge)
    share, room = own[0] / own[1], wanted[0] / wanted[1]  # as ImageOps.contain, but never of no pixels
    width = wanted[0] if share >= room else max(1, round(share * wanted[1]))
    height = wanted[1] if share <= room else max(1, round(own[1] / own[0] * wanted[0]))
    return width, height


def _centre(image: Image.Image, size: tuple[int, int], picture: Picture) -> Image.Image:
    """Return the centre of a picture, filled up where it is smaller.

    Args:
        size: width and height.
    """
    down = math.floor if picture.rounding == "down" else round
    start = [-down((own - wanted) / 2) for own, wanted in zip(image.size, size, strict=True)]
    ground = Image.new(image.mode, size, picture.pad)
    ground.paste(image, (start[0], start[1]))
    return ground
