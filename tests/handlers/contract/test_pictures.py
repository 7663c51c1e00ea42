"""What a contract says of pictures of any size is what becomes of them, wherever a file may stand in a request."""

import base64
import io
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageOps

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.contract.pictures import Picture
from handlers.formats.image import ImageCodec
from handlers.formats.pictures import decode_image, encode_png
from handlers.message import OCTETS, InputError, Request
from tests.support.handlers import wire
from tests.support.handlers.models import contract

SHAPE = (-1, 30, 40, 3)
SIZES = ((40, 30), (97, 64), (64, 97), (33, 21), (21, 33), (400, 21), (7, 7))  # width and height


def spec_of(picture: Picture | None = None, shape: tuple[int, ...] = SHAPE, background: str = "black") -> TensorSpec:
    return TensorSpec("x", "UINT8", shape, background=background, picture=picture)


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


def shortest(image: Image.Image, edge: int, resample: Image.Resampling) -> Image.Image:
    """As torchvision's and transformers' Resize of one number."""
    width, height = image.size
    sizes = (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
    return image.resize(sizes, resample)


def centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))  # black where the picture is smaller


BICUBIC, LANCZOS, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.NEAREST
REFERENCES: dict[str, tuple[Picture, Any]] = {
    "stretched": (Picture(), lambda image: image.resize((40, 30), Image.Resampling.BILINEAR)),
    "stretched by another filter": (Picture(resample="lanczos"), lambda image: image.resize((40, 30), LANCZOS)),
    "stretched and cropped": (
        Picture("stretch", (35, 46), "nearest"),
        lambda image: centre(image.resize((46, 35), NEAREST), 40, 30),
    ),
    "by the shortest edge": (
        Picture("shortest", 51, "bicubic"),
        lambda image: centre(shortest(image, 51, BICUBIC), 40, 30),
    ),
    "by a shortest edge that leaves gaps": (
        Picture("shortest", 20, "box"),
        lambda image: centre(shortest(image, 20, Image.Resampling.BOX), 40, 30),
    ),
    "by the input's shortest edge": (
        Picture("shortest", resample="hamming"),
        lambda image: centre(shortest(image, 30, Image.Resampling.HAMMING), 40, 30),
    ),
    "to fit": (
        Picture("fit", resample="bicubic", pad="#102030", rounding="even"),
        lambda image: ImageOps.pad(image, (40, 30), BICUBIC, "#102030"),
    ),
}


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("size", SIZES)
def test_a_picture_becomes_what_pillow_makes_of_it(kind: str, size: tuple[int, int]) -> None:
    picture, reference = REFERENCES[kind]
    image = noise(size)
    pixels = decode_image(saved(image), spec_of(picture), "body")[0]
    assert wire.same(pixels, np.asarray(reference(image)))


@pytest.mark.parametrize(("rounding", "left"), [("down", 17), ("even", 18)])
def test_half_a_pixel_is_rounded_as_the_contract_says(rounding: Any, left: int) -> None:
    image = noise((75, 30))  # 35 columns too many
    pixels = decode_image(saved(image), spec_of(Picture("shortest", 30, rounding=rounding)), "body")[0]
    assert wire.same(pixels, np.asarray(image)[:, left : left + 40])


def test_a_grey_input_is_made_of_a_grey_picture() -> None:
    image = noise((97, 64))
    pixels = decode_image(saved(image), spec_of(Picture("fit", pad="white"), (-1, 30, 40)), "body")[0]
    assert wire.same(pixels[2:28], np.asarray(image.convert("L").resize((40, 26), Image.Resampling.BILINEAR)))
    assert set(pixels[[0, 1, 28, 29]].ravel().tolist()) == {255}


def refusal(body: bytes, spec: TensorSpec) -> tuple[str, str, str]:
    with pytest.raises(InputError) as raised:
        decode_image(body, spec, "body")
    return raised.value.code, raised.value.message, raised.value.expected


def test_a_picture_of_another_size_is_refused_where_the_contract_says_so() -> None:
    spec = spec_of(Picture("none"))
    image = noise((40, 30))
    assert wire.same(decode_image(saved(image), spec, "body")[0], np.asarray(image))
    assert refusal(saved(noise((30, 40))), spec) == (
        "wrong_shape",
        "the image has 30 x 40 pixels",
        "an image of 40 x 30 pixels",
    )


@pytest.mark.parametrize("resize", ["shortest", "fit"])
@pytest.mark.parametrize("size", [(1, 21), (2_000_000, 1)])
def test_a_line_is_refused_where_proportions_are_kept_since_it_would_become_huge(
    resize: Any, size: tuple[int, int]
) -> None:
    body = saved(Image.new("1", size))
    code, _, expected = refusal(body, spec_of(Picture(resize)))
    assert (code, expected) == ("invalid_image", "an image at most 20 times as long as wide")
    assert decode_image(body, spec_of(Picture()), "body")[0].shape == SHAPE[1:]


def test_a_long_picture_fits_into_a_small_input() -> None:
    assert decode_image(saved(noise((200, 10))), spec_of(Picture("fit"), (-1, 8, 8)), "body")[0].shape == (8, 8)


CLEAR = Image.fromarray(np.dstack([np.full((30, 40, 3), 90, np.uint8), np.full((30, 40), 0, np.uint8)]))


@pytest.mark.parametrize(
    ("background", "colour"), [("black", [0] * 3), ("#10A0ff", [16, 160, 255]), ("ignore", [90] * 3)]
)
def test_the_contract_says_what_transparent_parts_become(background: str, colour: list[int]) -> None:
    spec = spec_of(background=background)
    assert decode_image(saved(CLEAR), spec, "body")[0][0, 0].tolist() == colour
    palette = CLEAR.convert("RGB").quantize(2)
    assert decode_image(saved(palette, transparency=0), spec, "body")[0][0, 0].tolist() == colour


def test_a_transparent_picture_is_refused_where_the_contract_says_so() -> None:
    spec = spec_of(background="refuse")
    assert refusal(saved(CLEAR), spec)[:2] == ("invalid_image", "the image has transparent parts")
    opaque = noise((40, 30))
    opaque.putalpha(255)
    assert wire.same(decode_image(saved(opaque), spec, "body")[0], np.asarray(opaque)[..., :3])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_without_its_transparency_a_picture_is_what_pillow_converts(mode: str) -> None:
    image = noise((40, 30)).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40)))
    pixels = decode_image(saved(image), spec_of(background="ignore"), "body")[0]
    assert wire.same(pixels, np.asarray(image.convert("RGB")))


MODEL = contract(spec_of(Picture("shortest", 36, "bicubic", rounding="even"), background="white"))
FILE = saved(noise((97, 64)))
B64 = base64.b64encode(FILE).decode()
BLOB = struct.pack("<I", len(FILE)) + FILE
BINARY = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(BLOB)}}
HEAD = wire.dumps({"inputs": [BINARY]})
WAYS: dict[str, Request] = {
    "body": wire.request(FILE, "image/png"),
    "body of no type": wire.request(FILE, OCTETS),
    "form": wire.request(b"", "multipart/form-data; boundary=b", {"file": FILE}),
    "native": wire.request({"inputs": {"b64": B64}}),
    "data URL": wire.request({"inputs": f"data:image/png;base64,{B64}"}),
    "KServe v1": wire.request({"instances": [{"b64": B64}]}),
    "v2 in JSON": wire.request({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [B64]}]}),
    "v2 in binary": wire.request(HEAD + BLOB, OCTETS, inference_header_content_length=str(len(HEAD))),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_becomes_the_same_pixels_wherever_it_stands(way: str) -> None:
    expected = centre(shortest(noise((97, 64)), 36, BICUBIC), 40, 30)  # 54 x 36, of which no half is left
    decoded = ImageCodec(MODEL, 8).decode(WAYS[way])
    assert wire.same(np.asarray(decoded.tensors["x"]), np.asarray(expected)[None])


def tensors(request: Request) -> Array:
    return np.asarray(ImageCodec(MODEL, 8).decode(request).tensors["x"])


def test_pixels_of_the_input_are_taken_as_they_are() -> None:
    pixels = np.asarray(noise((40, 30)))
    assert wire.same(tensors(wire.request({"inputs": pixels})), pixels[None])
    assert not wire.same(tensors(wire.request(encode_png(pixels), "image/png")), pixels[None])  # 36 pixels, then cut


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"picture": {"resize": "stretch", "size": 5}}, "resize stretch takes as its size height and width, not 5"),
        ({"picture": {"resize": "shortest", "size": [5, 6]}}, "resize shortest takes as its size one number"),
        ({"picture": {"resize": "fit", "size": 5}}, "resize fit takes as its size none, not 5"),
        ({"picture": {"resize": "shortest", "size": 0}}, "size 0 must be positive"),
        ({"picture": {"pad": "green"}}, "pad 'green' must be black, white or #rrggbb"),
        ({"picture": {"resize": "zoom"}}, "Invalid enum value 'zoom'"),
        ({"picture": {"zoom": 2}}, "unknown field `zoom`"),
        ({"picture": {}, "shape": [-1, 5]}, "a picture needs numbers of shape"),
        ({"picture": {}, "shape": [-1, -1, 5], "max_shape": [-1, 9, 5]}, "a picture needs numbers of shape"),
        ({"picture": {}, "datatype": "BYTES"}, "a picture needs numbers of shape"),
        ({"background": "green"}, "background 'green' must be black, white, #rrggbb, refuse or ignore"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declared: dict[str, Any], message: str) -> None:
    spec = {"name": "x", "datatype": "UINT8", "shape": SHAPE} | declared
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(spec, TensorSpec)


@pytest.mark.parametrize(
    "spec", [spec_of(Picture()), spec_of(background="ignore"), spec_of(Picture("fit", pad="white"))]
)
def test_only_a_contract_that_says_more_than_former_ones_has_the_third_format(spec: TensorSpec) -> None:
    text = contract(spec).to_json()
    assert msgspec.json.decode(text)["format"] == 3
    assert ModelContract.from_json(text) == contract(spec)
    for former in (spec_of(), spec_of(background="white")):
        written = msgspec.json.decode(contract(former).to_json())
        assert "format" not in written
        assert "picture" not in written["inputs"][0]


def test_a_default_that_is_said_is_not_written() -> None:
    said = b'{"resize": "stretch", "size": null, "resample": "bilinear", "pad": "black", "rounding": "down"}'
    assert msgspec.json.encode(msgspec.json.decode(said, type=Picture)) == b"{}"
    assert msgspec.json.encode(Picture(resample="BILINEAR".lower())) == b"{}"  # type: ignore[arg-type]
    text = b'{"name": "x", "datatype": "UINT8", "background": "black"}'
    assert b"background" not in msgspec.json.encode(msgspec.json.decode(text, type=TensorSpec))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (spec_of(Picture()), "a picture, stretched to 40 x 30 (bilinear)"),
        (
            spec_of(Picture("stretch", (35, 46), "nearest"), background="white"),
            "a picture, stretched to 46 x 35 (nearest), of which the middle 40 x 30 is taken, on white",
        ),
        (
            spec_of(Picture("shortest", 51, "bicubic"), background="ignore"),
            "a picture, its shortest edge made 51 (bicubic), of which the middle 40 x 30 is taken, its transparency "
            "ignored",
        ),
        (
            spec_of(Picture("fit", pad="#808080"), background="refuse"),
            "a picture, made to fit into 40 x 30 (bilinear), the rest #808080, refused where it is transparent",
        ),
        (spec_of(Picture("none")), "a picture, of 40 x 30"),
    ],
)
def test_a_declaration_is_told_in_words(spec: TensorSpec, words: str) -> None:
    assert spec.describe() == f"array of shape [30, 40, 3], each value: integer, or {words}"
