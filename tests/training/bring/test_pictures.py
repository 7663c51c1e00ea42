"""A graph of pictures, with a contract's declaration of them, answers for files as its own preparation of them does."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import TensorProto
from PIL import Image

from handlers.contract import Array
from handlers.engine import load_engine
from handlers.formats.pictures import encode_png
from handlers.handler import ModelHandler
from handlers.message import Request
from serving import archive
from serving.registry import Registry
from tests.support.training import graphs
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.packaging.contents import codec_of

HEIGHT, WIDTH = 12, 16
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZES = ((16, 12), (64, 48), (97, 41), (33, 80), (9, 11))  # width and height
LABELS = ("a", "b", "c")
SHORTEST = {"resize": "shortest", "size": 15, "rounding": "even"}


def pictures() -> list[Image.Image]:
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(0, 256, (height, width, 4), np.uint8)) for width, height in SIZES]


def as_torchvision(image: Image.Image, size: int = 15) -> Array:
    """``Resize(size)``, ``CenterCrop((12, 16))``, ``ToTensor()`` and ``Normalize(MEAN, STD)`` of torchvision."""
    image = image.convert("RGB")
    width, height = image.size
    sizes = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    image = image.resize(sizes, Image.Resampling.BILINEAR)
    left, top = max(0, WIDTH - image.width) // 2, max(0, HEIGHT - image.height) // 2
    padded = Image.new("RGB", (max(WIDTH, image.width), max(HEIGHT, image.height)))
    padded.paste(image, (left, top))
    left, top = int(round((padded.width - WIDTH) / 2.0)), int(round((padded.height - HEIGHT) / 2.0))
    values = np.asarray(padded.crop((left, top, left + WIDTH, top + HEIGHT)), np.float32).transpose(2, 0, 1) / 255
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (MEAN, STD))
    return np.asarray((values - mean) / std)[None]


def stretched(image: Image.Image, mode: str = "RGB") -> Array:
    """UINT8 of the input's size, on black."""
    ground = Image.new(mode, image.size)
    ground.paste(image.convert(mode), mask=image.getchannel("A"))
    return np.asarray(ground.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))[None]


class Imported:
    """An archive of a graph with a contract's file, opened as a worker opens it."""

    def __init__(self, graph: onnx.ModelProto, folder: Path, part: dict[str, Any], **options: Any) -> None:
        onnx.save(graph, folder / "model.onnx")
        (folder / "contract.yaml").write_text(yaml.safe_dump({"labels": [*LABELS], "inputs": {"pixels": part}}))
        given = ImportOptions(name="pets", contract=folder / "contract.yaml", **options)
        self.draft = draft(sources.read(folder / "model.onnx"), given)
        result = bring(self.draft, Registry(folder / "store"))
        archive.unpack(result.archive, folder / "unpacked")
        self.contract, self.entry_point = result.contract, archive.entry_point(result.archive)
        codec = codec_of(self.entry_point).open(folder / "unpacked", self.contract, 8)
        self.handler = ModelHandler(
            self.contract, load_engine("onnxruntime", folder / "unpacked", self.contract, 1), codec
        )
        self.handler.check_example()

    def ask(self, image: Image.Image) -> list[float]:
        file = io.BytesIO()
        image.save(file, "png")
        headers = {"content-type": "image/png", "x-top-k": "3"}
        (response,) = self.handler.handle([Request(file.getvalue(), headers, id="r")])
        assert response.status == 200, response.body
        classes = msgspec.json.decode(response.body)["prediction"]["top_k"]
        shares = {each["label"]: each["probability"] for each in classes}
        return [shares[label] for label in LABELS]


def expected(graph: onnx.ModelProto, values: Array) -> list[float]:
    """The file's own answer, as shares."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixels": values})
    shares = np.exp(logits[0] - logits[0].max())
    return list(shares / shares.sum())


CASES: dict[str, tuple[tuple[int | str, ...], int, dict[str, Any], Callable[[Image.Image], Array]]] = {
    "as torchvision": (
        ("N", 3, HEIGHT, WIDTH),
        TensorProto.FLOAT,
        {"picture": SHORTEST | {"mean": MEAN, "std": STD}, "background": "ignore"},
        as_torchvision,
    ),
    "of a fixed batch and free sizes": (
        (1, 3, "H", "W"),
        TensorProto.FLOAT,
        {"picture": SHORTEST | {"mean": MEAN, "std": STD, "crop": [HEIGHT, WIDTH]}, "background": "ignore"},
        as_torchvision,
    ),
    "without a batch": (
        (3, HEIGHT, WIDTH),
        TensorProto.FLOAT,
        {"picture": SHORTEST | {"mean": MEAN, "std": STD}, "background": "ignore"},
        lambda image: as_torchvision(image)[0],
    ),
    "as bytes": (("N", HEIGHT, WIDTH, 3), TensorProto.UINT8, {"picture": {}}, stretched),
    "as OpenCV and Caffe": (
        ("N", 3, HEIGHT, WIDTH),
        TensorProto.FLOAT,
        {"picture": {"colours": "bgr", "scale": 1, "mean": [104, 117, 123]}},
        lambda image: (stretched(image)[..., ::-1] - np.array([104, 117, 123], np.float32)).transpose(0, 3, 1, 2),
    ),
    "as Keras": (
        ("N", HEIGHT, WIDTH, 3),
        TensorProto.FLOAT,
        {"picture": {"mean": 0.5, "std": 0.5}},
        lambda image: (stretched(image).astype(np.float32) / 255 - 0.5) / 0.5,
    ),
    "of half precision": (
        ("N", 3, HEIGHT, WIDTH),
        TensorProto.FLOAT16,
        {"picture": {}},
        lambda image: (stretched(image).astype(np.float32) / 255).astype(np.float16).transpose(0, 3, 1, 2),
    ),
    "of grey in a channel": (
        ("N", 1, HEIGHT, WIDTH),
        TensorProto.FLOAT,
        {"picture": {}},
        lambda image: stretched(image, "L").astype(np.float32)[:, None] / 255,
    ),
    "of grey in the last channel": (
        ("N", HEIGHT, WIDTH, 1),
        TensorProto.FLOAT,
        {"picture": {}},
        lambda image: stretched(image, "L").astype(np.float32)[..., None] / 255,
    ),
    "of grey without a channel": (
        ("N", HEIGHT, WIDTH),
        TensorProto.INT32,
        {"picture": {}},
        lambda image: stretched(image, "L").astype(np.int32),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_files_of_any_size_are_answered_as_the_graph_answers_its_own_values(tmp_path: Path, kind: str) -> None:
    shape, datatype, part, prepared = CASES[kind]
    grey = 1 in shape[1:] or len(shape) == 3 and shape[0] == "N"
    graph = graphs.of_pictures(shape, HEIGHT * WIDTH * (1 if grey else 3), datatype)
    model = Imported(graph, tmp_path, part)
    (spec,) = model.contract.inputs
    assert (model.entry_point, spec.datatype, spec.shape[1:3]) == ("image", "UINT8", (HEIGHT, WIDTH))
    for image in pictures():
        assert model.ask(image) == pytest.approx(expected(graph, prepared(image)), abs=1e-4)


def test_a_scale_that_nobody_said_is_told_as_a_guess(tmp_path: Path) -> None:
    graph = graphs.of_pictures(("N", 3, HEIGHT, WIDTH), 3 * HEIGHT * WIDTH)
    assert Imported(graph, tmp_path, {"picture": {}}).draft.guessed["input pixels"] == (
        "the graph gets each pixel divided by 255"
    )
    said = Imported(graph, tmp_path, {"picture": {"scale": 255}})
    assert "input pixels" not in said.draft.guessed


@pytest.mark.parametrize("name", ["photo.png", "photo.json"])
def test_the_example_may_be_a_file_or_hold_one(tmp_path: Path, name: str) -> None:
    graph = graphs.of_pictures(("N", 3, HEIGHT, WIDTH), 3 * HEIGHT * WIDTH)
    pixels = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    file = encode_png(pixels)
    content = file if name.endswith("png") else msgspec.json.encode({"pixels": {"b64": file}})
    (tmp_path / name).write_bytes(content)
    model = Imported(graph, tmp_path, {"picture": {}}, example=tmp_path / name)
    right = expected(
        graph, stretched(Image.fromarray(pixels).convert("RGBA")).transpose(0, 3, 1, 2).astype(np.float32) / 255
    )
    answer = model.contract.example.response["prediction"]
    assert answer["probability"] == pytest.approx(max(right), abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "datatype", "part", "fault"),
    [
        (
            ("N", 4, 12, 16),
            TensorProto.FLOAT,
            {},
            r"pixels \['N', 4, 12, 16\] is no picture of layout nchw, nhwc or nhw",
        ),
        (("N", 3, 12, 3), TensorProto.FLOAT, {}, "is no picture of layout"),
        (("N", 36), TensorProto.FLOAT, {}, "is no picture of layout"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"layout": "nhw"}, "is no picture of layout nhw"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"layout": "nhwc"}, "pixels has 16 channels; colours rgb does not fit"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"colours": "grey"}, "pixels has 3 channels; colours grey does not fit"),
        (("N", 3, "H", "W"), TensorProto.FLOAT, {}, "crop must name its height and width"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"crop": [16, 12]}, "crop must name its height and width"),
        (
            ("N", 12, 16, 3),
            TensorProto.UINT8,
            {"mean": 0.5},
            "pixels is UINT8: scale, mean and std need a graph of floats",
        ),
        (("N", 12, 16, 3), TensorProto.INT8, {}, "pixels is INT8: .* pixels 0 to 255"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"mean": [0.5, 0.5]}, "mean and std need 3 numbers or one"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"std": 0}, "scale and std none that is 0"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"scale": 0}, "scale and std none that is 0"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"resize": "zoom"}, "contract.yaml: Invalid enum value 'zoom'"),
        (("N", 3, 12, 16), TensorProto.FLOAT, {"resize": "fit", "size": 5}, "resize fit takes as its size none, not 5"),
    ],
)
def test_a_declaration_that_does_not_fit_the_graph_gets_a_sentence(
    tmp_path: Path, shape: tuple[int | str, ...], datatype: int, part: dict[str, Any], fault: str
) -> None:
    graph = graphs.of_pictures(shape, 3 * HEIGHT * WIDTH, datatype)
    with pytest.raises(BringError, match=fault):
        Imported(graph, tmp_path, {"picture": part})


def test_a_picture_is_the_only_input(tmp_path: Path) -> None:
    file = graphs.save(graphs.HEADS, tmp_path / "model.onnx")
    (tmp_path / "contract.yaml").write_text("inputs: {attention_mask: {picture: {}}}")
    with pytest.raises(BringError, match="a picture must be the only input; there are input_ids, attention_mask"):
        draft(sources.read(file), ImportOptions(name="pets", contract=tmp_path / "contract.yaml"))


HOOKS = """
import numpy as np
def preprocess(rows):
    return {"pixels": rows["photo"].transpose(0, 3, 1, 2).astype(np.float32) / 255}
"""


def test_hooks_may_make_the_graphs_values_of_the_pixels(tmp_path: Path) -> None:
    graph = graphs.of_pictures(("N", 3, HEIGHT, WIDTH), 3 * HEIGHT * WIDTH)
    onnx.save(graph, tmp_path / "model.onnx")
    (tmp_path / "hooks.py").write_text(HOOKS)

    def drafted(part: dict[str, Any]) -> Any:
        (tmp_path / "contract.yaml").write_text(yaml.safe_dump({"inputs": {"photo": part}}))
        options = ImportOptions(name="p", contract=tmp_path / "contract.yaml", hooks=tmp_path / "hooks.py")
        return draft(sources.read(tmp_path / "model.onnx"), options)

    declared = {"datatype": "UINT8", "shape": [-1, HEIGHT, WIDTH, 3], "picture": {"resize": "fit"}}
    result = bring(drafted(declared), Registry(tmp_path / "store"))
    assert archive.entry_point(result.archive) == "image"
    assert result.contract.inputs[0].picture
    with pytest.raises(BringError, match="with hooks, a picture must be UINT8 of shape"):
        drafted(declared | {"datatype": "FP32"})


def test_a_draft_that_says_a_picture_is_read_back_as_it_was(tmp_path: Path) -> None:
    from training.bring import overrides

    graph = graphs.of_pictures(("N", HEIGHT, WIDTH, 3), 3 * HEIGHT * WIDTH, TensorProto.UINT8)
    part = {"picture": SHORTEST | {"resample": "lanczos", "pad": "white"}, "background": "#00ff00"}
    first = Imported(graph, tmp_path, part).contract
    text = overrides.written("classification", "", LABELS, {"inputs": {spec.name: spec for spec in first.inputs}})
    assert Imported(graph, tmp_path, yaml.safe_load(text)["inputs"]["pixels"]).contract.inputs == first.inputs
