"""Pictures: every kind of PNG and JPEG, raw or in a form, and what is none."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from handlers.contract import TensorSpec
from handlers.image_codec import MAX_PIXELS, ImageCodec, decode_image
from handlers.message import InputError, Request
from handlers.tensors import Array
from tests.handlers import wire
from tests.handlers.models import COLOURS, MAX_ROWS, PICTURES, SIZE, contract, pixels, serve

GREY = (SIZE, SIZE)
RGB = (SIZE, SIZE, 3)
ORIENTATION = 0x0112  # a tag of TIFF 6.0, and so of EXIF
FORM = "multipart/form-data; boundary=b"


def saved(image: Image.Image, encoding: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def png_head(side: int) -> bytes:
    """The start of a PNG that claims to be a huge square."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\0\0IDAT"


def form(**parts: bytes) -> Request:
    return wire.request(b"", FORM, parts)


def refused(body: bytes) -> tuple[str, str]:
    """Code and path of the refusal of a grey picture."""
    with pytest.raises(InputError) as raised:
        decode_image(body, GREY, "body")
    return raised.value.code, raised.value.path


def test_a_png_of_the_models_size_is_read_exactly() -> None:
    shown = pixels()[0]
    assert wire.same(decode_image(wire.picture(shown), GREY, "body"), shown)
    colour = pixels(rows=3).transpose(1, 2, 0)
    assert wire.same(decode_image(wire.picture(colour), RGB, "body"), colour)


def test_a_jpeg_is_read_almost_exactly() -> None:
    shown = np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8) * 10
    found = decode_image(wire.picture(shown, "jpeg"), GREY, "body")
    assert np.abs(found.astype(int) - shown).max() < 8


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, lambda held: held), (3, lambda held: held[::-1, ::-1]), (6, np.rot90), (8, lambda held: np.rot90(held, -1))],
)
def test_a_picture_is_seen_as_the_camera_was_held(
    encoding: str, orientation: int, turned: Callable[[Array], Array]
) -> None:
    held = np.zeros((40, 64), np.uint8)
    held[:24, :32] = 255  # white above on the left; the edges lie between blocks of JPEG, which then is exact
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    sent = saved(Image.fromarray(np.ascontiguousarray(turned(held))), encoding, exif=exif)
    found = decode_image(sent, held.shape, "body").astype(int)
    assert np.abs(found - held).max() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0no TIFF at all", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_that_cannot_be_read_harms_nothing(exif: bytes) -> None:
    shown = np.full(GREY, 200, np.uint8)
    found = decode_image(saved(Image.fromarray(shown), "jpeg", exif=exif), GREY, "body")
    assert np.abs(found.astype(int) - shown).max() < 8


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_exif_does_not_hide_that_a_picture_is_damaged(encoding: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    body = saved(Image.fromarray(noise), encoding, exif=exif)
    assert refused(body[: len(body) * 2 // 3]) == ("invalid_image", "body")


def test_a_grey_picture_fits_a_model_of_colours_and_the_other_way_round() -> None:
    shown = pixels()[0]
    assert wire.same(decode_image(wire.picture(shown), RGB, "body"), np.stack([shown] * 3, -1))
    red = np.zeros(RGB, np.uint8)
    red[..., 0] = 255
    found = decode_image(wire.picture(red), GREY, "body")
    assert set(found.ravel().tolist()) == {76}  # ITU-R 601-2: 0.299 of red


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    white = Image.new(mode, (SIZE, SIZE), 65535 if mode == "I;16" else "white")
    assert decode_image(saved(white), GREY, "body").tolist() == [[255] * SIZE] * SIZE
    assert decode_image(saved(white), RGB, "body").tolist() == [[[255] * 3] * SIZE] * SIZE


def test_a_jpeg_in_cmyk_is_read() -> None:
    white = Image.new("CMYK", (SIZE, SIZE), (0, 0, 0, 0))
    assert decode_image(saved(white, "jpeg"), RGB, "body").min() > 250


def test_grey_of_16_bits_is_scaled_not_clipped() -> None:
    deep = np.full(GREY, 0x8000, np.uint16)
    assert set(decode_image(saved(Image.fromarray(deep)), GREY, "body").ravel().tolist()) == {0x80}


@pytest.mark.parametrize("size", [(1, 1), (3, 12), (200, 100)])
def test_a_picture_of_another_size_is_resized(size: tuple[int, int]) -> None:
    found = decode_image(saved(Image.new("L", size, 77)), GREY, "body")
    assert found.tolist() == [[77] * SIZE] * SIZE


def test_height_comes_before_width() -> None:
    wide = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert wire.same(decode_image(wire.picture(wide), (2, 4), "body"), wide)


def test_pixels_have_the_models_datatype() -> None:
    floats = contract(TensorSpec("pixels", "FP32", (-1, SIZE, SIZE)))
    shown = pixels()[0]
    decoded = ImageCodec(floats, MAX_ROWS).decode(wire.request(wire.picture(shown), "image/png"))
    assert wire.same(decoded.tensors["pixels"], shown[None].astype(np.float32))
    assert (decoded.rows, decoded.protocol) == (1, "image")


@pytest.mark.parametrize("content_type", ["image/png", "Image/PNG", "image/jpeg", "image/png; charset=binary"])
def test_a_picture_gets_the_answer_that_its_pixels_get(content_type: str) -> None:
    shown = pixels()[0]
    handler = serve(PICTURES)
    expected = wire.ask(handler, wire.request({"inputs": shown}))
    assert wire.ask(handler, wire.request(wire.picture(shown), content_type)) == expected
    assert wire.ask(handler, form(file=wire.picture(shown))) == expected


def test_the_part_of_a_form_may_have_any_name_and_top_k_stands_beside_it() -> None:
    handler = serve(PICTURES)
    answer = wire.ask(handler, form(anything=wire.picture(pixels()[0]), top_k=b"3"))
    assert len(answer["prediction"]["top_k"]) == 3
    raw = wire.request(wire.picture(pixels()[0]), "image/png", x_top_k="3")
    assert wire.ask(handler, raw) == answer


@pytest.mark.parametrize("top_k", [b"0", b"5", b"two", b"\xff", b""])
def test_a_top_k_in_a_form_that_makes_no_sense_is_refused(top_k: bytes) -> None:
    asked = form(file=wire.picture(pixels()[0]), top_k=top_k)
    assert wire.fault(serve(PICTURES), asked) == (400, "invalid_parameter", "top_k")


@pytest.mark.parametrize("parts", [{}, {"top_k": b"1"}, {"a": b"x", "b": b"y"}])
def test_a_form_holds_exactly_one_file(parts: dict[str, bytes]) -> None:
    asked = wire.request(b"", FORM, parts)
    error = wire.refusal(serve(PICTURES), asked)
    assert (error["status"], error["path"]) == ("400", "form" if parts else "$")
    assert error["code"] == ("invalid_image" if parts else "empty")


@pytest.mark.parametrize("encoding", ["gif", "bmp", "tiff", "webp", "ppm"])
def test_other_formats_of_pictures_are_refused_whatever_they_are_called(encoding: str) -> None:
    body = saved(Image.new("RGB", (SIZE, SIZE)), encoding)
    assert refused(body) == ("invalid_image", "body")
    called_png = wire.request(body, "image/png")
    assert wire.fault(serve(COLOURS), called_png) == (400, "invalid_image", "body")
    by_name = wire.request(body, f"image/{encoding}")
    assert wire.fault(serve(COLOURS), by_name) == (415, "unsupported_media_type", "content-type")


def outcome(body: bytes) -> Array | str:
    """A grey picture of 40 x 40, or the code of its refusal."""
    try:
        return decode_image(body, (40, 40), "body")
    except InputError as error:
        return error.code


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_a_picture_cut_anywhere_is_refused_or_still_whole(encoding: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    body = wire.picture(noise, encoding)
    whole = decode_image(body, (40, 40), "body")
    for end in range(0, len(body), 7):
        found = outcome(body[:end])
        if isinstance(found, str):
            assert found == "invalid_image"
        else:  # only the end mark was missing
            assert end > len(body) - 20
            assert wire.same(found, whole)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    side = int(MAX_PIXELS**0.5)
    assert decode_image(saved(Image.new("1", (side, side))), GREY, "body").shape == GREY
    assert refused(saved(Image.new("1", (side + 1, side)))) == ("image_too_large", "body")


@pytest.mark.parametrize("side", [10_000, 14_000])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_bomb_is_refused_alike_where_warnings_are_errors(side: int, action: Literal["error", "ignore"]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # the decoder warns of some, and raises an error for larger ones
        assert refused(png_head(side)) == ("image_too_large", "body")


def test_a_bomb_in_a_pictures_text_is_refused() -> None:
    text = b"zTXtComment\0\0" + zlib.compress(b"\0" * 10_000_000)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    body = wire.picture(pixels()[0])
    end_of_head = 8 + 25
    assert refused(body[:end_of_head] + chunk + body[end_of_head:]) == ("invalid_image", "body")


@pytest.mark.parametrize("shape", [(-1, 6, 6, 1), (-1, 6), (-1, 3, 6, 6)])
def test_a_contract_without_a_picture_is_refused_when_the_model_loads(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no picture"):
        ImageCodec(contract(TensorSpec("x", "UINT8", shape)), 8)
