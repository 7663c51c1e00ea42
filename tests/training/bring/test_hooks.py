"""A model with code of its own: preprocess and postprocess go into the archive and run in the worker."""

import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.contract import ModelContract
from handlers.engine import load_engine
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from serving import archive
from serving.registry import Registry
from tests.support.training import graphs
from training import pipeline
from training.bring import sources
from training.bring.draft import Draft, ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.packaging import packable

INPUTS = """
inputs:
  city: {datatype: BYTES, categories: [bonn, oslo]}
  sizes: {datatype: FP32, shape: [-1, 2]}
"""
HOOKS = """
import numpy as np
from handlers.message import InputError


def preprocess(rows):
    if (rows["sizes"] < 0).any():
        raise InputError("out_of_range", "a size is negative", "$.sizes", "sizes of 0 and more")
    north = (rows["city"] == "oslo").astype(np.float32)
    return {"x": np.column_stack([rows["sizes"], north]).astype(np.float32)}


def postprocess(outputs):
    return {"price": 100 * outputs["variable"][:, 0], "rounded": outputs["variable"][:, 0].astype(int)}
"""
ROW = {"city": "oslo", "sizes": [1.5, 2]}
PRICED = {"price": 850.0, "rounded": 8}


class Model:
    """Files that a user has, and what became of them."""

    def __init__(self, folder: Path, hooks: str, graph: str = graphs.REGRESSION, inputs: str = INPUTS) -> None:
        self.folder, self.file = folder, graphs.save(graph, folder / "model.onnx")
        (folder / "hooks.py").write_text(textwrap.dedent(hooks))
        (folder / "contract.yaml").write_text(inputs)
        self.registry = Registry(folder / "store")

    def draft(self, **options: Any) -> Draft:
        (self.folder / "example.json").write_bytes(msgspec.json.encode(options.pop("example", ROW)))
        options = {"hooks": self.folder / "hooks.py", "contract": self.folder / "contract.yaml"} | options
        given = ImportOptions(name="house", example=self.folder / "example.json", **options)
        return draft(sources.read(self.file), given)

    def handler(self, **options: Any) -> ModelHandler:
        return opened(bring(self.draft(**options), self.registry).archive, self.folder / "unpacked")


def opened(path: Path, folder: Path) -> ModelHandler:
    archive.unpack(path, folder)
    contract = ModelContract.from_json((folder / archive.CONTRACT).read_bytes())
    handler = ModelHandler(contract, load_engine("onnxruntime", folder, contract, 1), Codec(contract, 1024))
    handler.check_example()
    return handler


def ask(handler: ModelHandler, *rows: Any) -> list[tuple[int, Any]]:
    requests = [Request(msgspec.json.encode(row), {"content-type": JSON}, id=f"r-{i}") for i, row in enumerate(rows)]
    return [(response.status, msgspec.json.decode(response.body)) for response in handler.handle(requests)]


def test_rows_pass_through_both_hooks(tmp_path: Path) -> None:
    handler = Model(tmp_path, HOOKS).handler()
    assert ask(handler, ROW, ROW | {"city": "bonn"}) == [
        (200, {"prediction": PRICED}),
        (200, {"prediction": {"price": 550.0, "rounded": 5}}),
    ]
    assert [(spec.name, spec.datatype) for spec in handler.contract.outputs] == [
        ("price", "FP32"),
        ("rounded", "INT64"),
    ]


def test_a_row_that_a_hook_refuses_is_its_requests_own_fault(tmp_path: Path) -> None:
    handler = Model(tmp_path, HOOKS).handler()
    right, (status, body) = ask(handler, ROW, ROW | {"sizes": [1, -2]})
    assert right == (200, {"prediction": PRICED})
    assert status == 400
    assert (body["error"]["code"], body["error"]["message"]) == ("out_of_range", "a size is negative")
    assert (body["error"]["path"], body["error"]["expected"]) == ("$.sizes", "sizes of 0 and more")


def test_an_error_of_a_hook_is_the_models_and_hits_one_request(tmp_path: Path) -> None:
    hooks = HOOKS.replace("    if (rows", "    assert rows['sizes'].max() < 100\n    if (rows")
    right, (status, body) = ask(Model(tmp_path, hooks).handler(), ROW, ROW | {"sizes": [1, 200]})
    assert (right[0], status, body["error"]["code"]) == (200, 500, "internal")
    assert "assert" not in body["error"]["message"]


def test_without_preprocess_the_inputs_are_the_graphs(tmp_path: Path) -> None:
    hooks = "def postprocess(outputs):\n    return {'total': outputs['variable'].reshape(-1) + 0.5}\n"
    handler = Model(tmp_path, hooks, inputs="").handler(example={"inputs": [1, 2, 3]})
    assert handler.contract.task == "regression"
    assert ask(handler, {"inputs": [1, 1, 1]}) == [(200, {"prediction": 6.5})]


def test_a_classification_has_probabilities_of_its_hook(tmp_path: Path) -> None:
    hooks = """
        import numpy as np

        def postprocess(outputs):
            likely = np.exp(outputs["logits"])
            return {"probabilities": likely / likely.sum(1, keepdims=True)}
    """
    model = Model(tmp_path, hooks, graphs.LOGITS, inputs="")
    handler = model.handler(labels=("a", "b", "c"), example={"inputs": [3, 0]})
    ((status, body),) = ask(handler, {"inputs": [3, 0]})
    assert (status, body["prediction"]["label"]) == (200, "a")


def test_packages_that_a_hook_imports_are_requirements_and_named_where_they_are_missing(tmp_path: Path) -> None:
    hooks = "import scipy.special\nimport json\n" + HOOKS.strip()
    Model(tmp_path, hooks).handler()
    folder = tmp_path / "unpacked"
    (required,) = [line for line in (folder / "requirements.txt").read_text().split() if line.startswith("scipy==")]
    (folder / "hooks.py").write_text("import sxipy\n" + hooks)
    (folder / "requirements.txt").write_text(f"numpy==1.0\nsxipy=={required.partition('==')[2]}\n")
    contract = ModelContract.from_json((folder / archive.CONTRACT).read_bytes())
    with pytest.raises(ValueError, match=r"No module named 'sxipy': pip install sxipy==[\d.]+$"):
        load_engine("onnxruntime", folder, contract, 1)


def test_the_champion_is_packaged_anew_with_its_hooks(tmp_path: Path) -> None:
    model = Model(tmp_path, HOOKS)
    bring(model.draft(), model.registry)
    result = pipeline.package(packable.of_champion("house", model.registry), model.registry)
    assert ask(opened(result.archive, tmp_path / "again"), ROW) == [(200, {"prediction": PRICED})]


def test_two_models_have_hooks_of_their_own(tmp_path: Path) -> None:
    for factor in ("1", "2"):
        (tmp_path / factor).mkdir()
    first = Model(tmp_path / "1", HOOKS).handler()
    second = Model(tmp_path / "2", HOOKS.replace("100 *", "200 *")).handler()
    prices = [ask(handler, ROW)[0][1]["prediction"]["price"] for handler in (first, second, first)]
    assert prices == [850, 1700, 850]


def test_a_hook_that_mixes_rows_gets_them_one_at_a_time(tmp_path: Path) -> None:
    hooks = HOOKS.replace("100 * outputs", "outputs['variable'].mean() + 0 * outputs")
    handler = Model(tmp_path, hooks).handler()
    assert handler.contract.max_rows == 1
    assert ask(handler, ROW, ROW | {"city": "bonn"})[1] == (200, {"prediction": {"price": 5.5, "rounded": 5}})


@pytest.mark.parametrize(
    ("hooks", "options", "message"),
    [
        ("import nothing_such", {}, r"hooks.py cannot be imported: No module named 'nothing_such'"),
        ("def preprocess(rows:", {}, r"hooks.py cannot be imported: SyntaxError: '\(' was never closed"),
        ("x = 1 / 0", {}, "hooks.py cannot be imported: ZeroDivisionError"),
        ("x = 1", {}, r"neither a function preprocess\(rows\) nor postprocess\(outputs\)"),
        (HOOKS.replace('rows["city"]', 'rows["town"]'), {}, "preprocess failed: KeyError: 'town'"),
        (HOOKS.replace('"x":', '"y":'), {}, "the graph cannot compute these values"),
        (HOOKS.replace("100 * outputs['variable'][:, 0]".replace("'", '"'), "1"), {}, r"price \[\] of 1 rows"),
        (HOOKS.replace("[:, 0].astype(int)", "[:, 0].astype(complex)"), {}, "rounded as complex128, which no protocol"),
        (HOOKS.replace("100 * ", "").replace("[:, 0],", ","), {"task": "regression"}, r"one number a row, of shape"),
        (HOOKS.replace("    return {\"price\"", "    return 1\n    return {\"price\""), {}, "postprocess failed"),
        (HOOKS, {"hooks": None}, r"for inputs that hooks take: --hooks hooks.py"),
        (HOOKS, {"example": ROW | {"sizes": [-1, 0]}}, "hooks: a size is negative"),
        (HOOKS, {"hooks": Path("/nowhere/hooks.py")}, "/nowhere/hooks.py: .*No such file"),
    ],
)  # fmt: skip
def test_hooks_that_cannot_be_are_refused_in_a_sentence(
    tmp_path: Path, hooks: str, options: dict[str, Any], message: str
) -> None:
    model = Model(tmp_path, hooks)
    with pytest.raises(BringError, match=message):
        bring(model.draft(**options), model.registry)
    assert model.registry.models() == {}


@pytest.mark.parametrize("part", ["{shape: [-1, 2]}", "{datatype: FP31}", "{unit: m}"])
def test_inputs_before_hooks_are_declared_whole_or_not_at_all(tmp_path: Path, part: str) -> None:
    model = Model(tmp_path, HOOKS, inputs=f"{INPUTS}  third: {part}\n")
    with pytest.raises(BringError, match=r"third"):
        model.draft()
