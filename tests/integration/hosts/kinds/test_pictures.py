"""Imported models of pictures answer for files of any size, on every host, as their own preparation of them does."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.integration.conftest import Server
from tests.integration.hosts.kinds.conftest import Kinds
from tests.support.training import huggingface
from tests.support.training.huggingface import transformers


def photo() -> Image.Image:
    """A picture of noise, transparent here and there."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 77, 4), np.uint8))


def expected(kinds: Kinds, name: str) -> tuple[str, float]:
    """The likeliest class and its share, by transformers' pipeline, or by torchvision's steps and ONNX Runtime."""
    if name == "pets":
        best = transformers.pipeline("image-classification", model=str(kinds["pets"].file))(photo())[0]
        return best["label"], best["score"]
    image = photo().convert("RGB").resize((55, 36), Image.Resampling.BILINEAR).crop((12, 2, 44, 34))
    mean, std = (np.array(numbers, np.float32) for numbers in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    values = (np.asarray(image, np.float32) / 255 - mean) / std
    session = onnxruntime.InferenceSession(kinds["pixels"].file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixels": values.transpose(2, 0, 1)[None]})
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    return huggingface.EMOTIONS[int(shares.argmax())], float(shares.max())


@pytest.mark.parametrize("name", ["pets", "pixels"])
def test_a_file_gets_the_same_answer_wherever_it_stands(own: Server, kinds: Kinds, name: str) -> None:
    stream = io.BytesIO()
    photo().save(stream, "png")
    file, text = stream.getvalue(), base64.b64encode(stream.getvalue()).decode()
    label, share = expected(kinds, name)

    def post(path: str, **request: Any) -> Any:
        response = own.client.post(f"{own.url}{path}", **request)
        assert response.status_code == 200, response.text
        return response.json()

    native = f"/predictions/{name}"
    answers = [
        post(native, content=file, headers={"Content-Type": "image/png"})["prediction"],
        post(native, files={"file": file})["prediction"],
        post(native, json={"inputs": {"b64": text}})["prediction"],
        *post(f"/v1/models/{name}:predict", json={"instances": [{"b64": text}, {"b64": text}]})["predictions"],
    ]
    for answer in answers:
        assert (answer["label"], answer["probability"]) == (label, pytest.approx(share, abs=1e-4))
    tensor = {"name": own.contract(name).inputs[0].name, "shape": [1], "datatype": "BYTES", "data": [text]}
    outputs = post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})["outputs"]
    assert [output["data"] for output in outputs if output["name"] == "label"] == [[label]]


def test_the_form_says_what_becomes_of_a_file_and_answers_for_one(own: Server, kinds: Kinds) -> None:
    address = f"{own.settings.monitor_url}/console/models/pixels"
    page = httpx.get(address, timeout=60, trust_env=False).text
    assert "its shortest edge made 36 (bilinear), of which the middle 32 x 32 is taken" in page
    stream = io.BytesIO()
    photo().save(stream, "png")
    headers = {"HX-Request": "true"}
    tried = httpx.post(
        f"{address}/try", files={"pixels": stream.getvalue()}, headers=headers, timeout=60, trust_env=False
    )
    assert tried.status_code == 200, tried.text
    assert expected(kinds, "pixels")[0] in tried.text


def test_a_line_gets_an_error_that_explains(own: Server) -> None:
    stream = io.BytesIO()
    Image.new("L", (500, 2)).save(stream, "png")
    headers = {"Content-Type": "image/png"}
    response = own.client.post(f"{own.url}/predictions/pets", content=stream.getvalue(), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_image")
    assert response.json()["error"]["expected"] == "an image at most 20 times as long as wide"
