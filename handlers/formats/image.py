"""Pictures in: files raw, in a form, or as base64 in JSON, for a model whose only input is an image."""

import numpy as np

from handlers.batch import Decoded
from handlers.contract import Array, ModelContract
from handlers.formats import picture_json
from handlers.formats.codec import Codec
from handlers.formats.oip import HEADER_LENGTH
from handlers.formats.pictures import ALIASES, FORMATS, MAX_PIXELS, NAMES, decode_image, sniff
from handlers.http.multipart import FORM_DATA
from handlers.message import OCTETS, InputError, Part, Request


class ImageCodec(Codec):
    """Adds pictures: made as the contract says, of shape ``(-1, height, width)`` or ``(…, 3)``."""

    accepts = (*Codec.accepts, *FORMATS, FORM_DATA)

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        super().__init__(contract, max_rows)
        if len(contract.inputs) != 1 or not contract.inputs[0].is_picture:
            shapes = ", ".join(str(list(spec.shape)) for spec in contract.inputs)
            raise ValueError(
                f"{contract.name} takes {shapes}, no picture: [-1, height, width] or [-1, height, width, 3]"
            )

    def decode(self, request: Request) -> Decoded:
        """Decode one request, or raise ``InputError``."""
        files = picture_json.read_files(request, self.contract.inputs[0].name, self.max_rows)
        if files is None:
            return super().decode(request)
        array = self._pixels(files.pictures)
        if files.protocol == "v2":
            return super().decode(picture_json.as_tensor(request, files, self.contract.inputs[0], array))
        top_k = self.top_k(request, files.top_k)
        tensors = {self.contract.inputs[0].name: array}
        return self.as_rows(files.protocol, tensors, len(array), top_k, single=files.protocol == "native")

    def decode_other(self, request: Request, media_type: str) -> Decoded:
        """Decode a picture into one row.

        Raises:
            InputError: no picture of an accepted format, damaged or too large.
        """
        media_type = ALIASES.get(media_type, media_type)
        if media_type in ("", OCTETS) and HEADER_LENGTH not in request.headers:
            media_type = sniff(request.body) or media_type
        if media_type == FORM_DATA:
            body, where = _only_file(request.parts), "form"
        elif media_type in FORMATS:
            body, where = request.body, "body"
        else:
            return super().decode_other(request, media_type)
        array = self._pixels([(body, where)])
        return self.as_rows("image", {self.contract.inputs[0].name: array}, 1, self.top_k(request), single=True)

    def _pixels(self, pictures: list[tuple[bytes, str]]) -> Array:
        """Return the graph's tensor of pictures, which together have no more pixels than one may have.

        Args:
            pictures: each file, and its name in errors.
        """
        spec = self.contract.inputs[0]
        rows, room = [], MAX_PIXELS
        for body, where in pictures:
            row, used = decode_image(body, spec, where, room)
            rows.append(row)
            room -= used
            if row.shape != rows[0].shape:
                size = f"this image is {list(row.shape)} and the first {list(rows[0].shape)}"
                raise InputError("wrong_shape", size, where, "images of one size in a request")
        return np.stack(rows).astype(spec.dtype, copy=False)


def _only_file(parts: tuple[Part, ...]) -> bytes:
    """Return the picture of a form: its only file, or its only field beside ``top_k``.

    Raises:
        InputError: none, several, or a field that would be ignored.
    """
    fields = [part for part in parts if part.name != "top_k"]
    files = [part for part in fields if part.content_type] or fields
    expected = f"exactly one file, {NAMES}, and top_k"
    if len(files) != 1:
        raise InputError("invalid_image", f"the form has {len(files)} files", "form", expected)
    unknown = [part.name for part in fields if part is not files[0]]
    if unknown or len(parts) - len(fields) > 1:
        fault = f"the form has the field {unknown[0]!r}" if unknown else "the form has top_k twice"
        raise InputError("unknown_field" if unknown else "duplicate_key", fault, "form", expected)
    return files[0].body
