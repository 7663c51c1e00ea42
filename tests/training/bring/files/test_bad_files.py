"""A bad file of any kind gets a sentence from the command and an exit code of 1; the store stays as it was."""

import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import onnx
import pytest
import torch
from typer.testing import CliRunner

from serving import archive
from serving.archive import limits
from tests.support.training import foreign, graphs
from tests.support.training.kinds.made import Made
from tests.support.training.kinds.table import MAKERS, lacking
from tests.training.bring.test_torch import Net
from training.__main__ import app

Options = Sequence[str | Path]
CODE = "this must not run"


class Evil:
    """Says so where it is read."""

    def __reduce__(self) -> Any:
        return (print, (CODE,))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a good model."""
    folder = tmp_path_factory.mktemp("good")
    code, told = imported(graphs.save(graphs.REGRESSION, folder / "good.onnx"), (), folder / "store")
    assert code == 0, told
    return folder / "store"


def imported(file: Path, options: Options, store: Path) -> tuple[int, str]:
    """The command's exit code, and what it says."""
    command = ["import", str(file), "--name", "model", *map(str, options), "--store", str(store)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    return done.exit_code, " ".join(done.output.split())


def refusal(file: Path, options: Options, store: Path) -> str:
    """The sentence that a bad file gets; what the store holds is compared before and after."""
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    code, told = imported(file, options, store)
    assert (code, {path.name: path.read_bytes() for path in store.iterdir()}) == (1, before), told
    assert "Traceback" not in told
    assert CODE not in told
    _, error, sentence = told.partition("error: ")
    assert error
    return sentence


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Files of each kind, made once."""
    files: dict[str, Made] = {}

    def make(kind: str) -> Made:
        if reason := lacking(kind):
            pytest.skip(reason)
        if kind not in files:
            files[kind] = MAKERS[kind](tmp_path_factory.mktemp(kind))
        return files[kind]

    return make


def largest(path: Path) -> Path:
    """The file itself, or the largest of a folder: that of the weights."""
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix not in (".json", ".txt")]
    return max(files, key=lambda file: file.stat().st_size) if path.is_dir() else path


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_of_any_kind_that_was_cut_off(made: Callable[[str], Made], store: Path, kind: str) -> None:
    whole = made(kind)
    file = largest(whole.file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    try:
        sentence = refusal(whole.file, whole.options, store)
    finally:
        file.write_bytes(content)
    assert file.name in sentence or whole.file.name in sentence


def bomb(path: Path) -> Path:
    """A zip that would become a hundred times as large and more."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data.pkl", bytes(8 << 20))
    return path


@pytest.mark.parametrize("suffix", [".pt2", ".pt", ".pth", ".ckpt", ".skops", ".mar"])
def test_a_zip_that_would_expand_beyond_reason(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(limits, "USUAL_BYTES", 1 << 20)  # else the bomb of this test would be a large one
    (tmp_path / "row.json").write_text("[1, 2, 3]")
    options = ("--trust", "--example", tmp_path / "row.json")
    sentence = refusal(bomb(tmp_path / f"bomb{suffix}"), options, store)
    assert sentence.endswith("no model is packed so, and nothing is unpacked")


def parsed(folder: Path, graph: str, domains: str = '"" : 19') -> Path:
    onnx.save(onnx.parser.parse_model(f"<ir_version: 9, opset_import: [{domains}]> g {graph}"), folder / "bad.onnx")
    return folder / "bad.onnx"


def clashing(folder: Path) -> Path:
    """A graph of two inputs whose names a contract cannot tell apart."""
    model = graphs.model("(float[N] a_b, float[N] c) => (float[N] y) { y = Add(a_b, c) }")
    model.graph.input[1].name = model.graph.node[0].input[1] = "a b"
    onnx.save(model, folder / "clash.onnx")
    return folder / "clash.onnx"


def outside(folder: Path) -> Path:
    """A graph whose weights would lie in a file outside of its folder."""
    (folder / "secret").write_bytes(bytes(12))
    inner = folder / "model"
    inner.mkdir()
    model = graphs.model(graphs.REGRESSION)
    (weight,) = model.graph.initializer
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), weight.name))
    onnx.external_data_helper.set_external_data(weight, "../secret")
    weight.ClearField("raw_data")
    (inner / "m.onnx").write_bytes(model.SerializeToString())
    return inner


def evil_program(folder: Path) -> Path:
    """A program with a pickle in the place of its example inputs."""
    torch.save({"weights": Evil()}, folder / "evil.pt")
    torch.export.save(torch.export.export(Net(), (torch.rand(2, 3),)), folder / "plain.pt2")
    content = (folder / "plain.pt2").read_bytes()
    (inputs,) = (name for name in archive.names(content) if "/sample_inputs/" in name)
    pickle = archive.read_file(folder / "evil.pt", "evil/data.pkl")
    (folder / "evil.pt2").write_bytes(archive.rewritten(content, {inputs: pickle}))
    return folder / "evil.pt2"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def saved(name: str, content: Any, save: Callable[[Any, Path], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save(content, folder / name)
        return folder / name

    return write


def quantum(folder: Path) -> Path:
    """A folder of MLflow that has no flavour which can be imported."""
    (folder / "m").mkdir()
    (folder / "m" / "MLmodel").write_text("flavors: {python_function: {loader_module: mine}, prophet: {data: m}}")
    return folder / "m"


def own_code(folder: Path) -> Path:
    """A folder of transformers whose code lies in it."""
    (folder / "m").mkdir()
    config = {"architectures": ["MyModel"], "model_type": "mine", "auto_map": {"AutoModel": "code.MyModel"}}
    (folder / "m" / "config.json").write_text(json.dumps(config))
    return folder / "m"


MODULE = ("--module", f"{Net.__module__}:Net", "--example")
BAD: dict[str, tuple[Callable[[Path], Path], Options, str]] = {
    "an opset that nobody has": (
        lambda folder: parsed(folder, "(float[N,1] x) => (float[N,1] y) { y = Identity(x) }", '"" : 99'),
        (),
        "cannot run it: .*opset",
    ),
    "an operator that nobody has": (
        lambda folder: parsed(
            folder, "(float[N,1] x) => (float[N,1] y) { y = com.acme.Magic(x) }", '"" : 19, "com.acme" : 1'
        ),
        (),
        "Magic",
    ),
    "names that clash": (clashing, (), "two names become 'a_b', one of them from 'a b': rename one"),
    "weights outside of the folder": (outside, (), "of which one cannot be read"),
    "a folder of two graphs": (
        lambda folder: [graphs.save(graphs.REGRESSION, folder / name) for name in ("a.onnx", "b.onnx")][0].parent,
        (),
        "must hold one .onnx file; it holds a.onnx, b.onnx",
    ),
    "an empty folder": (lambda folder: folder, (), "must hold one .onnx file; it holds none"),
    "a program with a pickle": (evil_program, (), "is pickled, and would run its code .*: --trust allows that"),
    "a program that is a text": (written("m.pt2", b"hello"), (), "m.pt2 is no program of torch.export"),
    "weights with a pickle": (saved("m.pt", {"w": Evil()}, torch.save), MODULE, "m.pt holds no weights alone"),
    "weights of nothing": (saved("m.pth", [1, 2], torch.save), MODULE, "m.pth holds no weights alone: it holds a list"),
    "weights of another network": (
        saved("m.pt", torch.nn.Linear(2, 1).state_dict(), torch.save),
        MODULE,
        "m.pt does not fit .*:Net: ",
    ),
    "weights without their module": (
        saved("m.pt", Net().state_dict(), torch.save),
        ("--example",),
        "m.pt is no TorchScript; weights alone need --module",
    ),
    "a text for safetensors": (written("m.safetensors", b"hello"), MODULE, "m.safetensors holds no weights alone"),
    "a pickle": (saved("m.joblib", Evil(), joblib.dump), (), "m.joblib is a pickle: .* --trust allows that"),
    "a pickle by another suffix": (saved("m.pkl", Evil(), joblib.dump), (), "m.pkl is a pickle"),
    "no estimator": (saved("m.joblib", {"a": 1}, joblib.dump), ("--trust",), "holds a dict, which predicts nothing"),
    "a text for skops": (written("m.skops", b"hello"), (), "m.skops cannot be read"),
    "a text for XGBoost": (written("m.json", b"[]"), (), "m.json is no model of XGBoost"),
    "junk for XGBoost": (written("m.ubj", b"junk" * 9), (), "m.ubj is no model of XGBoost"),
    "a text for LightGBM": (written("m.txt", b"hello"), (), "m.txt is .*its first line is not `tree`"),
    "a text for CatBoost": (written("m.cbm", b"hello"), (), "m.cbm is no model of CatBoost"),
    "a text for GGUF": (written("m.gguf", b"hello"), (), "m.gguf is no GGUF file"),
    "a text for an archive": (written("m.mar", b"hello"), ("--trust", "--example"), "m.mar cannot be read"),
    "an archive that is not trusted": (
        lambda folder: foreign.adder(folder / "m.mar"),
        ("--example",),
        "code that runs now and in each worker: --trust allows it",
    ),
    "a flavour that nobody reads": (quantum, (), "has the flavours python_function, prophet; onnx, .* can be imported"),
    "code in a folder of transformers": (own_code, ("--trust",), "the code of its AutoModel .* is never run"),
    "another format": (written("m.h5", b"hello"), (), "files that end with .h5 cannot be imported; an .onnx file"),
    "no file": (lambda folder: folder / "m.onnx", (), "m.onnx is not there"),
}
EXTRAS = {"XGBoost": "xgboost", "LightGBM": "lightgbm", "CatBoost": "catboost", "GGUF": "smol", "skops": "ridge",
          "pickle": "ridge", "estimator": "ridge", "safetensors": "safetensors", "transformers": "mood"}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gets_a_sentence(tmp_path: Path, store: Path, case: str) -> None:
    if reason := next((why for part, kind in EXTRAS.items() if part in case and (why := lacking(kind))), ""):
        pytest.skip(reason)
    make, options, expected = BAD[case]
    file = make(tmp_path)
    (store.parent / "row.json").write_text("[1, 2, 3]")
    options = (*options, store.parent / "row.json") if "--example" in options else options
    sentence = refusal(file, options, store)
    assert re.search(expected, sentence), sentence
