"""Pictures of several formats to pixels: upright, opaque, grey or RGB, of the model's size."""

import base64
import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps, UnidentifiedImageError

from handlers.contract import Array
from handlers.message import InputError

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
NAMES = "PNG, JPEG, WebP or GIF"
MAX_PIXELS = 25_000_000  # before decoding: a small file can claim to be a huge picture
_MODES = {2: "L", 3: "RGB"}
_STARTS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_BITS = {"L;2": 2, "L;4": 4}  # of a grey PNG, by Pillow's name of its rows


def sniff(body: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for other formats."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in _STARTS.items() if body.startswith(start)), "")


def decode_image(
    body: bytes, shape: tuple[int, ...], where: str, background: str = "black", most: int = MAX_PIXELS
) -> tuple[Array, int]:
    """Decode a picture; of several frames the first.

    Args:
        shape: ``(height, width)`` for grey or ``(height, width, 3)`` for RGB.
        where: name of the source in errors.
        background: colour behind transparent parts, ``black`` or ``white``.
        most: most pixels.

    Returns:
        UINT8 of that shape, 0 to 255, upright by its EXIF, resized (bilinear) where its size differs; and the number of
        pixels in the file.

    Raises:
        InputError: no picture, damaged, or of more pixels.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(body), formats=list(FORMATS.values()))
        pixels = image.width * image.height
        if pixels > most:
            size = f"the image has {image.width} x {image.height} pixels"
            raise InputError("image_too_large", size, where, f"at most {MAX_PIXELS} pixels in a request")
        image = _opaque(_upright(image), _MODES[len(shape)], background)
    except UnidentifiedImageError:
        raise InputError("invalid_image", f"the bytes are no {NAMES}", where, f"a {NAMES} file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where those are errors
        bomb = "the image is a decompression bomb"
        raise InputError("image_too_large", bomb, where, f"at most {MAX_PIXELS} pixels") from None
    except InputError:
        raise
    except Exception:  # decoders raise any error on hostile bytes
        damaged = f"the image of {len(body)} bytes is damaged, or cut off"
        raise InputError("invalid_image", damaged, where, f"a whole {NAMES} file") from None
    height, width = shape[:2]
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8), pixels


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
    if "exif" in image.info:
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
    opaque.info = {"exif": image.info["exif"]} if "exif" in image.info else {}
    return opaque


def _opaque(image: Image.Image, mode: str, background: str) -> Image.Image:
    """Put a picture on its background, so that the colours of clear parts do not count."""
    if image.mode == "I;16":  # convert would clip 16 bits of grey to 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert(mode)
    image = image.convert("RGBA")
    ground = Image.new(mode, image.size, background)
    ground.paste(image.convert(mode), mask=image.getchannel("A"))
    return ground
