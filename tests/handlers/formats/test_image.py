"""Pictures: every kind of PNG and JPEG, raw or in a form, and what is none."""

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import orjson
import pytest
from PIL import Image

from handlers.contract import Array, TensorSpec
from handlers.formats import pictures
from handlers.formats.image import ImageCodec
from handlers.formats.pictures import MAX_PIXELS
from handlers.message import OCTETS, InputError, Request
from tests.support.handlers import wire
from tests.support.handlers.models import COLOURS, MAX_ROWS, PICTURES, SIZE, contract, pixels, serve

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


def decode_image(body: bytes, shape: tuple[int, ...], where: str, background: str = "black") -> Array:
    return pictures.decode_image(body, TensorSpec("x", "UINT8", (-1, *shape), background=background), where)[0]


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


def test_a_picture_is_turned_by_its_xmp_where_it_has_no_exif() -> None:
    held = np.zeros((40, 64), np.uint8)
    held[:24, :32] = 255
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="3"/></x:xmpmeta>'
    sent = saved(Image.fromarray(np.ascontiguousarray(held[::-1, ::-1])), "jpeg", xmp=xmp)
    assert np.abs(decode_image(sent, held.shape, "body").astype(int) - held).max() < 8


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


@pytest.mark.parametrize("encoding", ["png", "jpeg", "gif", "webp"])
def test_a_picture_whose_head_is_damaged_is_not_called_another_format(encoding: str) -> None:
    body = saved(Image.fromarray(pixels()[0]), encoding)
    with pytest.raises(InputError, match="is damaged, or cut off"):
        decode_image(body[:16], GREY, "body")


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
    assert (error["status"], error["path"]) == ("400", "form")
    assert error["code"] == ("invalid_image" if parts else "invalid_form")


@pytest.mark.parametrize("encoding", ["bmp", "tiff", "ppm", "ico"])
def test_other_formats_of_pictures_are_refused_whatever_they_are_called(encoding: str) -> None:
    body = saved(Image.new("RGB", (SIZE, SIZE)), encoding)
    assert refused(body) == ("invalid_image", "body")
    called_png = wire.request(body, "image/png")
    assert wire.fault(serve(COLOURS), called_png) == (400, "invalid_image", "body")
    by_name = wire.request(body, f"image/{encoding}")
    assert wire.fault(serve(COLOURS), by_name) == (415, "unsupported_media_type", "content-type")


@pytest.mark.parametrize("encoding", ["png", "jpeg", "webp", "gif"])
@pytest.mark.parametrize("called", ["image/jpg", "image/pjpeg", "image/x-png", "IMAGE/PNG", "image/webp", "image/gif"])
def test_a_picture_is_read_by_its_bytes_under_any_name_of_a_format_that_is_read(encoding: str, called: str) -> None:
    body = saved(Image.new("L", (SIZE, SIZE), 200), encoding)
    handler = serve(PICTURES)
    expected = wire.ask(handler, wire.request(body, f"image/{encoding}"))
    assert wire.ask(handler, wire.request(body, called)) == expected
    for unnamed in ("", OCTETS):
        assert wire.ask(handler, wire.request(body, unnamed)) == expected


@pytest.mark.parametrize("encoding", ["gif", "webp", "png"])
def test_of_a_picture_that_moves_the_first_frame_counts(encoding: str) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), colour) for colour in ("white", "black", "red")]
    body = saved(frames[0], encoding, save_all=True, append_images=frames[1:], **LOSSLESS.get(encoding, {}))
    assert decode_image(body, GREY, "body").tolist() == [[255] * SIZE] * SIZE


LOSSLESS: dict[str, dict[str, Any]] = {"webp": {"lossless": True, "exact": True}}


@pytest.mark.parametrize("encoding", ["gif", "webp"])
def test_other_formats_have_the_same_limits(encoding: str) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    assert refused(saved(Image.new("L", (side, side)), encoding)) == ("image_too_large", "body")
    whole = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)), encoding)
    assert refused(whole[: len(whole) // 2]) == ("invalid_image", "body")
    assert refused(whole[:10]) == ("invalid_image", "body")


def clear(colour: int, mode: str) -> tuple[Image.Image, dict[str, Any]]:
    """A picture whose left half is 200, its right half of a colour that nobody sees, and options to save it with."""
    alpha = np.full(GREY, 255, np.uint8)
    alpha[:, SIZE // 2 :] = 0
    grey = np.full(GREY, 200, np.uint8)
    grey[:, SIZE // 2 :] = colour
    if mode in ("LA", "RGBA"):
        image = Image.fromarray(grey).convert(mode[:-1])
        image.putalpha(Image.fromarray(alpha))
        return image, {}
    if mode == "P":
        image = Image.fromarray(np.where(alpha, 1, 0).astype(np.uint8))
        image = image.convert("P")
        image.putpalette([colour] * 3 + [200] * 3)
        return image, {"transparency": 0}
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257), {"transparency": colour * 257}
    image = Image.fromarray(grey).convert(mode)
    return image, {"transparency": colour if mode == "L" else (colour,) * 3}


@pytest.mark.parametrize(("background", "shade"), [("black", 0), ("white", 255)])
@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB", "I;16"])
@pytest.mark.parametrize("colour", [0, 255, 90])
def test_what_is_transparent_shows_the_background_whatever_colour_hides_there(
    mode: str, colour: int, background: str, shade: int
) -> None:
    image, options = clear(colour, mode)
    body = saved(image, **options)
    half = [200] * (SIZE // 2) + [shade] * (SIZE - SIZE // 2)
    assert decode_image(body, GREY, "body", background).tolist() == [half] * SIZE
    assert decode_image(body, RGB, "body", background)[0, :, 1].tolist() == half


@pytest.mark.parametrize("encoding", ["webp", "gif"])
@pytest.mark.parametrize("colour", [0, 255])
def test_other_formats_are_transparent_too(encoding: str, colour: int) -> None:
    body = saved(clear(colour, "RGBA")[0], encoding, **LOSSLESS.get(encoding, {}))
    found = decode_image(body, GREY, "body", "white")
    assert np.abs(found[:, : SIZE // 2].astype(int) - 200).max() < 4
    assert found[:, SIZE // 2 :].tolist() == [[255] * (SIZE - SIZE // 2)] * SIZE


@pytest.mark.parametrize(("bits", "key"), [(1, 1), (2, 3), (4, 15), (1, 0), (4, 5)])
def test_a_grey_of_few_bits_may_be_the_transparent_one(bits: int, key: int) -> None:
    row = b"\0" + bytes([sum(key << at for at in range(0, 8, bits))])  # no filter, then pixels of that grey
    side = 8 // bits
    head = struct.pack(">IIBBBBB", side, 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    for background, shade in (("black", 0), ("white", 255)):
        assert decode_image(png, (1, side), "body", background).tolist() == [[shade] * side]


def test_half_transparent_is_half_of_the_background() -> None:
    image = Image.new("LA", (SIZE, SIZE), (200, 128))
    assert set(decode_image(saved(image), GREY, "body").ravel().tolist()) == {100}
    opaque = Image.new("RGBA", (SIZE, SIZE), (10, 20, 30, 255))
    assert wire.same(
        decode_image(saved(opaque), GREY, "body"), decode_image(saved(opaque.convert("RGB")), GREY, "body")
    )


def test_the_contract_says_the_background() -> None:
    body = saved(clear(90, "RGBA")[0])
    for background, shade in (("black", 0), ("white", 255)):
        spec = TensorSpec("pixels", "UINT8", (-1, SIZE, SIZE), background=background)
        decoded = ImageCodec(contract(spec), MAX_ROWS).decode(wire.request(body, "image/png"))
        assert decoded.tensors["pixels"][0, 0, -1] == shade


def b64(body: bytes) -> str:
    return base64.b64encode(body).decode()


SHOWN = pixels()[0]
FILE = wire.picture(SHOWN)
URL = f"data:image/png;base64,{b64(FILE)}"
NAME = PICTURES.inputs[0].name
IN_JSON = {"b64": b64(FILE)}
LONE: list[Any] = [IN_JSON, URL, b64(FILE), {NAME: IN_JSON}, {"image_bytes": IN_JSON}, {NAME: URL}, {NAME: b64(FILE)}]


@pytest.mark.parametrize("lone", LONE)
def test_a_picture_in_json_gets_the_answer_that_its_pixels_get(lone: Any) -> None:
    handler = serve(PICTURES)
    expected = wire.ask(handler, wire.request({"inputs": SHOWN}))
    assert wire.ask(handler, wire.request({"inputs": lone})) == expected
    rows = wire.ask(handler, wire.request({"instances": [lone, lone]}))
    assert rows == {"predictions": [expected["prediction"]] * 2}
    if isinstance(lone, dict):
        assert wire.ask(handler, wire.request(lone)) == expected
    asked = wire.request({"instances": [lone], "parameters": {"top_k": 2}})
    assert len(wire.ask(handler, asked)["predictions"][0]["top_k"]) == 2


@pytest.mark.parametrize("encoding", ["png", "jpeg", "gif", "webp"])
@pytest.mark.parametrize("slash", [b"/", b"\\/", b"_"])  # PHP escapes it; _ is of the alphabet for URLs
def test_base64_alone_is_a_picture_in_every_format(encoding: str, slash: bytes) -> None:
    handler = serve(PICTURES)
    file = saved(Image.fromarray(SHOWN), encoding)
    body = orjson.dumps({"instances": [{NAME: b64(file)}]}).replace(b"/", slash)
    (prediction,) = wire.ask(handler, wire.request(body))["predictions"]
    assert prediction == wire.ask(handler, wire.request(file, f"image/{encoding}"))["prediction"]


def as_bytes(data: list[str], shape: list[int], **more: Any) -> Request:
    return wire.request({"inputs": [{"name": NAME, "shape": shape, "datatype": "BYTES", "data": data}], **more})


def test_pictures_are_bytes_in_v2_in_json_and_in_binary() -> None:
    handler = serve(PICTURES)
    plain = {"name": NAME, "shape": [2, SIZE, SIZE], "datatype": "UINT8", "data": np.stack([SHOWN, SHOWN])}
    expected = wire.ask(handler, wire.request({"inputs": [plain], "id": "7"}))
    assert wire.ask(handler, as_bytes([b64(FILE), URL], [2], id="7")) == expected
    assert wire.ask(handler, as_bytes([b64(FILE), URL], [2, 1], id="7")) == expected
    blob = (struct.pack("<I", len(FILE)) + FILE) * 2
    tensor = {"name": NAME, "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    head = wire.dumps({"inputs": [tensor], "id": "7"})
    asked = wire.request(head + blob, OCTETS, inference_header_content_length=str(len(head)))
    assert wire.ask(handler, asked) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (wire.request({"b64": "no base64!"}), (400, "invalid_image", "$.b64")),
        (wire.request({"b64": b64(b"no picture")}), (400, "invalid_image", "$.b64")),
        (wire.request({"b64": 5}), (400, "wrong_type", "$.b64")),
        (wire.request({"inputs": "data:text/plain,hello"}), (400, "invalid_image", "$.inputs")),
        (wire.request({"instances": [{"b64": b64(FILE)}, {"b64": ""}]}), (400, "invalid_image", "$.instances[1].b64")),
        (wire.request({"instances": [{"b64": b64(FILE)}, SHOWN]}), (400, "wrong_type", "$.instances[1]")),
        (wire.request({"instances": [{"b64": b64(FILE)}] * 9}), (413, "too_many_rows", "$.instances")),
        (wire.request({"inputs": URL, "more": 1}), (400, "unknown_field", "$.more")),
        (wire.request(b'{"b64": "", "b64": ""}'), (400, "duplicate_key", "$.b64")),
        (as_bytes([b64(FILE)], [2]), (400, "wrong_shape", "$.inputs[0].shape")),
        (as_bytes(["?"], [1]), (400, "invalid_image", "$.inputs[0].data[0]")),
        (as_bytes([], [0]), (400, "empty", "$.inputs[0].shape")),
    ],
)
def test_a_picture_in_json_that_is_none_is_told_where(asked: Request, expected: tuple[int, str, str]) -> None:
    response = serve(PICTURES).handle([asked])[0]
    told = orjson.loads(response.body)
    detail = told["error"] if isinstance(told["error"], dict) else told
    assert (response.status, detail["code"], detail["path"]) == expected


def test_all_pictures_of_a_request_together_have_no_more_pixels_than_one_may_have() -> None:
    side = int((MAX_PIXELS / 3) ** 0.5)
    body = b64(saved(Image.new("1", (side, side))))
    handler = serve(PICTURES)
    assert handler.handle([wire.request({"instances": [{"b64": body}] * 3})])[0].status == 200
    response = handler.handle([wire.request({"instances": [{"b64": body}] * 4})])[0]
    assert response.status == 413
    assert b"image_too_large" in response.body


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


def test_a_picture_keeps_a_size_that_varies_in_the_contract_up_to_its_largest() -> None:
    free = contract(TensorSpec("x", "UINT8", (-1, -1, -1, 3), max_shape=(-1, 30, 40, 3)))
    codec = ImageCodec(free, MAX_ROWS)
    shown = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    decoded = codec.decode(wire.request(wire.picture(shown), "image/png"))
    assert wire.same(decoded.tensors["x"], shown[None])
    with pytest.raises(InputError, match="40 x 31 pixels") as raised:
        codec.decode(wire.request(saved(Image.new("RGB", (40, 31))), "image/png"))
    assert raised.value.expected == "at most 40 x 30 pixels"
    several = [{"b64": b64(saved(Image.new("RGB", size)))} for size in ((20, 20), (20, 21))]
    with pytest.raises(InputError, match=r"this image is \[21, 20, 3\] and the first \[20, 20, 3\]"):
        codec.decode(wire.request({"instances": several}))


@pytest.mark.parametrize("shape", [(-1, 6, 6, 1), (-1, 6), (-1, 3, 6, 6)])
def test_a_contract_without_a_picture_is_refused_when_the_model_loads(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no picture"):
        ImageCodec(contract(TensorSpec("x", "UINT8", shape)), 8)


@pytest.mark.parametrize("shape", [GREY, RGB])
def test_a_picture_that_was_written_is_read_the_same(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert wire.same(decode_image(pictures.encode_png(pixels), shape, "body"), pixels)
    address = pictures.png_address(pixels.tolist())
    assert base64.b64decode(address.removeprefix("data:image/png;base64,")) == pictures.encode_png(pixels)


@pytest.mark.parametrize(
    ("shape", "is_picture"), [(GREY, True), (RGB, True), ((), False), ((3,), False), ((8, 8, 4), False)]
)
def test_a_picture_has_height_and_width_and_maybe_three_colours(shape: tuple[int, ...], is_picture: bool) -> None:
    assert TensorSpec("x", "UINT8", (-1, *shape)).is_picture == is_picture
