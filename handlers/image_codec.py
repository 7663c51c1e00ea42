"""Pictures in: PNG and JPEG, raw or in a form, as one row of a model whose only input is an image."""

import contextlib
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from handlers.codec import Codec, Decoded
from handlers.contract import ModelContract
from handlers.message import InputError, Request
from handlers.tensors import Array

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG"}
MAX_PIXELS = 25_000_000  # before decoding: a small file can claim to be a huge picture
_MODES = {2: "L", 3: "RGB"}


class ImageCodec(Codec):
    """Adds pictures: converted and resized to the contract's shape, ``(-1, height, width)`` or ``(…, 3)``."""

    accepts = (*Codec.accepts, *FORMATS, "multipart/form-data")

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        super().__init__(contract, max_rows)
        shapes = [spec.shape for spec in contract.inputs]
        if len(shapes) != 1 or not (len(shapes[0]) == 3 or len(shapes[0]) == 4 and shapes[0][3] == 3):
            found = ", ".join(str(list(shape)) for shape in shapes)
            raise ValueError(
                f"{contract.name} takes {found}, no picture: [-1, height, width] or [-1, height, width, 3]"
            )

    def decode_other(self, request: Request, media_type: str) -> Decoded:
        """Decode a picture into one row.

        Raises:
            InputError: no picture, not of a format that is accepted, damaged or too large.
        """
        if media_type == "multipart/form-data":
            body, where = _only_file(request), "form"
        elif media_type in FORMATS:
            body, where = request.body, "body"
        else:
            return super().decode_other(request, media_type)
        spec = self.contract.inputs[0]
        pixels = decode_image(body, spec.shape[1:], where)
        tensors = {spec.name: pixels[None].astype(spec.dtype, copy=False)}
        return self.as_rows("image", tensors, 1, self.top_k(request), single=True)


def decode_image(body: bytes, shape: tuple[int, ...], where: str) -> Array:
    """Decode a PNG or JPEG.

    Args:
        body: the file.
        shape: ``(height, width)`` for grey or ``(height, width, 3)`` for RGB.
        where: what the error calls the source.

    Returns:
        UINT8 of that shape, 0 to 255, upright as EXIF has it, resized (bilinear) where the picture's size differs.

    Raises:
        InputError: no picture, damaged, or of more than ``MAX_PIXELS``.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(body), formats=list(FORMATS.values()))
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height} pixels"
            raise InputError("image_too_large", f"the image has {size}", where, f"at most {MAX_PIXELS} pixels")
        if "exif" in image.info:
            image.load()  # broken pixels are an error
            with contextlib.suppress(Exception):  # EXIF that cannot be read says nothing
                ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "I;16":  # grey of 16 bits, which convert would clip to 255 instead of scaling
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert(_MODES[len(shape)])
    except UnidentifiedImageError:
        raise InputError("invalid_image", "the bytes are no PNG or JPEG", where, "a PNG or JPEG file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where those are errors
        bomb = "the image is a decompression bomb"
        raise InputError("image_too_large", bomb, where, f"at most {MAX_PIXELS} pixels") from None
    except InputError:
        raise
    except Exception as error:  # whatever else a decoder raises on hostile bytes, the bytes are at fault
        raise InputError("invalid_image", f"the image is damaged: {error}", where, "a whole PNG or JPEG file") from None
    height, width = shape[:2]
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _only_file(request: Request) -> bytes:
    files = [value for name, value in request.form.items() if name != "top_k"]
    if len(files) != 1:
        raise InputError("invalid_image", f"the form has {len(files)} files", "form", "exactly one image file")
    return files[0]
