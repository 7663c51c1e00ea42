"""An archive of ``torch-model-archiver`` becomes one of Marloop's, and its handler answers as it does in TorchServe."""

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from handlers.engine.foreign import FOLDER, ForeignHandler
from handlers.formats.opaque import as_array
from handlers.message import Part, Request, Response
from serving import archive
from serving.registry import Registry
from tests.support.training import foreign as made
from training.__main__ import app

NUMBERS = {"numbers": [1, 2.5]}


def unpacked(path: Path, folder: Path) -> Path:
    archive.unpack(path, folder / FOLDER)
    return folder


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignHandler]:
    folder = tmp_path_factory.mktemp("adder")
    handler = ForeignHandler(unpacked(made.adder(folder / "a.mar"), folder), "adder", 2, 60.0)
    yield handler
    handler.close()


def ask(handler: ForeignHandler, *bodies: Any, **headers: str) -> list[Response]:
    sent = [body if isinstance(body, Request) else request(body, **headers) for body in bodies]
    answers: list[Response] = handler.run({"request": as_array(sent)})["answer"].tolist()
    return answers


def request(body: Any, **headers: str) -> Request:
    return Request(json.dumps(body).encode(), {"content-type": "application/json"} | headers)


def test_json_texts_bytes_and_forms_reach_it_as_torchserve_hands_them_on(adder: ForeignHandler) -> None:
    assert json.loads(ask(adder, NUMBERS)[0].body) == {"total": 3.5}
    for content_type, kind in {"text/plain": "str", "image/png": "bytearray", "application/json": "bytearray"}.items():
        (answer,) = ask(adder, Request(b"{12", {"content-type": content_type}))
        assert (answer.body, answer.content_type) == (f"{kind} of 3".encode(), "text/plain; charset=utf-8")
    parts = (Part("body", b'{"numbers": [4]}', "application/json"),)
    (answer,) = ask(adder, Request(b"", {"content-type": "multipart/form-data"}, {"body": b""}, "", parts))
    assert json.loads(answer.body) == {"total": 4}


def test_it_sets_status_content_type_and_headers_of_each_answer(adder: ForeignHandler) -> None:
    teapot, picture = ask(adder, NUMBERS | {"order": "status"}, {"order": "picture"})
    assert (teapot.status, picture.status) == (418, 200)
    assert (picture.body, picture.content_type, picture.headers) == (b"\x89PNG", "image/png", {"x-made-by": "hand"})
    (own,) = ask(adder, {"order": "headers"}, **{"x-mine": "yes"})
    assert json.loads(own.body)["mine"] == "yes"


def test_a_crash_and_an_error_are_those_of_their_request_alone(adder: ForeignHandler) -> None:
    with pytest.raises(RuntimeError, match="ValueError: it was told to"):
        ask(adder, {"order": "raise"})
    pid = json.loads(ask(adder, {"order": "headers"})[0].body)["pid"]
    assert pid != os.getpid()
    with pytest.raises(RuntimeError, match="ended with 1"):
        ask(adder, {"order": "crash"})
    assert json.loads(ask(adder, {"order": "headers"})[0].body)["pid"] != pid


def test_a_function_is_a_handler_and_its_modules_may_be_called_as_ours(tmp_path: Path) -> None:
    files = {"add.py": made.FUNCTION, "handlers.py": "OFFSET = 7", made.MANIFEST: made.manifest("add.py:add")}
    handler = ForeignHandler(unpacked(made.save(tmp_path / "f.mar", files), tmp_path), "f", 1, 60.0)
    assert json.loads(ask(handler, {"numbers": [1]})[0].body) == {"total": 8, "loaded": ["adder"]}
    handler.close()


def test_torchserves_base_class_runs_its_network(tmp_path: Path) -> None:
    handler = ForeignHandler(unpacked(made.doubler(tmp_path / "d.mar"), tmp_path), "d", 1, 60.0)
    assert json.loads(ask(handler, {"x": [1, 2]})[0].body) == [2.0, 4.0]
    handler.close()


@pytest.mark.skipif(
    not (find_spec("torchvision") and find_spec("captum")),
    reason="TorchServe's image_classifier needs torchvision and captum, which nothing else here does",
)
def test_torchserves_image_classifier_answers(tmp_path: Path) -> None:
    handler = ForeignHandler(unpacked(made.classifier(tmp_path / "c.mar"), tmp_path), "c", 1, 60.0)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    picture = Request((tmp_path / "red.png").read_bytes(), {"content-type": "image/png"})
    assert json.loads(ask(handler, picture)[0].body).keys() == {"ant", "bee", "cat", "dog", "eel"}
    handler.close()


def imported(file: Path, *options: str | Path) -> tuple[int, str]:
    """What the command says, and its exit code."""
    store = ("--store", str(file.parent / "store"))
    command = ["import", str(file), "--name", "legacy", *map(str, options), *store]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    return done.exit_code, " ".join(done.output.split())


def example(folder: Path, body: Any = NUMBERS, name: str = "request.json") -> tuple[str, str, Path]:
    (folder / name).write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return "--trust", "--example", folder / name


def test_it_is_registered_with_its_answer_and_the_table_of_what_a_contract_would_add(tmp_path: Path) -> None:
    code, told = imported(made.adder(tmp_path / "legacy.mar", 10), *example(tmp_path))
    assert code == 0, told
    assert "legacy.mar: TorchServe's archive of adder 2.1, handler adder.py, 3 files" in told
    assert "routes /predictions/legacy, any body KServe v1, Open Inference Protocol, gRPC" in told
    assert "legacy-1.0.mar: champion (the first version; nothing was measured)" in told
    registry = Registry(tmp_path / "store")
    contract = registry.champion_contract("legacy")
    assert (contract.task, contract.format, contract.example.response) == ("opaque", 2, {"json": {"total": 13.5}})
    assert contract.lineage.imported
    assert contract.lineage.imported.kind == "TorchServe's archive, handler adder.py"
    packed = registry.store / "legacy-1.0.mar"
    assert archive.read_file(packed, "original/offset.txt") == b"10"
    assert archive.read_config(packed)["batchSize"] == 1
    code, told = imported(made.adder(tmp_path / "legacy.mar", 20), *example(tmp_path))
    assert "legacy-1.1.mar: challenger (nothing was measured, so that nothing tells whether it is better" in told


def test_it_is_packaged_again_with_other_settings(tmp_path: Path) -> None:
    imported(made.adder(tmp_path / "legacy.mar", 10), *example(tmp_path))
    store = ("--store", str(tmp_path / "store"))
    done = CliRunner().invoke(app, ["package", "legacy", "--batch-size", "4", *store], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    registry = Registry(tmp_path / "store")
    contract, packed = registry.champion_contract("legacy"), tmp_path / "store" / "legacy-1.1.mar"
    assert (contract.version, contract.lineage.packaged_from) == ("1.1", "1.0")
    config = archive.read_config(packed)
    assert (config["batchSize"], config["minWorkers"], config["handler"]) == (4, 1, {"max_rows": 4})
    assert archive.read_file(packed, "original/offset.txt") == b"10"


def test_an_answer_that_changes_is_told_and_only_its_status_is_probed(tmp_path: Path) -> None:
    code, told = imported(made.adder(tmp_path / "legacy.mar", handler=made.CLOCK), *example(tmp_path))
    assert code == 0, told
    assert "it answers the same request otherwise each time: probes look at the status alone" in told
    assert Registry(tmp_path / "store").champion_contract("legacy").example.response == {}


RAISES = made.ADDER.replace("self.folder = ", 'raise OSError("no licence"); self.folder = ')
TUPLE = made.ADDER.replace("return [self", "return () and [self")
NEEDS = {"requirementsFile": "requirements.txt"}
REFUSED: list[tuple[str, str, dict[str, str], Any, str]] = [
    ("raises", RAISES, {}, NUMBERS, "its handler adder.py does not load: OSError: no licence"),
    ("ends", "import os; os._exit(3)", {}, NUMBERS, "handler adder.py does not load: the process"),
    ("no class", "x = 1", {}, NUMBERS, "it must have a function handle(data, context) or one class; its classes: none"),
    ("import", "import absent_package", {}, NUMBERS, "does not load: ModuleNotFoundError: No module named 'absent_p"),
    ("syntax", "class:", {}, NUMBERS, "does not load: SyntaxError: invalid syntax"),
    ("needs", made.ADDER, NEEDS, NUMBERS, "names what is not installed: pip install absent-package==1.2 other>1"),
    ("example", made.ADDER, {}, {"order": "raise"}, "(application/json) with 500: ValueError: it was told to"),
    ("status", made.ADDER, {}, NUMBERS | {"order": "status"}, "(application/json) with 418"),
    (
        "no list",
        made.ADDER.replace("return [self", "return () and [self"),
        {},
        NUMBERS,
        "for 1 requests it returned a tuple",
    ),
]


@pytest.mark.parametrize(
    ("handler", "about", "body", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_does_not_answer_is_refused_and_changes_nothing(
    tmp_path: Path, handler: str, about: dict[str, str], body: Any, expected: str
) -> None:
    needs = "# what it needs\nnumpy\nabsent-package==1.2\nother>1  # why\n-r more.txt\nthird; sys_platform == 'win32'\n"
    files = {"adder.py": handler, "offset.txt": "0", made.MANIFEST: made.manifest("adder.py", **about)}
    file = made.save(tmp_path / "bad.mar", files | {"requirements.txt": needs})
    code, told = imported(file, *example(tmp_path, body))
    assert code == 1
    assert expected in told
    assert not list(tmp_path.glob("store/*"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--example", "r.json"], "handler adder.py, code that runs now and in each worker: --trust allows it"),
        (["--trust"], "nobody knows what its handler takes: give the body of a request that it answers by --example"),
        (["--trust", "--example", "absent.json"], "absent.json"),
        (["--trust", "--labels", "a,b"], "--labels: of a graph, and legacy.mar is served by its own handler"),
        (["--contract", "c.yaml", "--data", "d.csv"], "--data, --contract: of a graph"),
    ],
)
def test_options_that_are_missing_or_not_its_own_get_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.json").write_text("{}", encoding="utf-8")
    code, told = imported(made.adder(tmp_path / "legacy.mar"), *options)
    assert (code, Path("store").exists()) == (1, False)
    assert expected in told


def test_it_has_no_contract_to_print(tmp_path: Path) -> None:
    file = made.adder(tmp_path / "legacy.mar")
    done = CliRunner().invoke(app, ["contract", str(file)], catch_exceptions=False)
    assert done.exit_code == 1
    assert "legacy.mar has none: its own handler serves it" in " ".join(done.output.split())


def test_a_worker_without_a_package_says_which_when_it_starts(tmp_path: Path) -> None:
    folder = unpacked(made.adder(tmp_path / "a.mar", requirementsFile="requirements.txt"), tmp_path)
    (folder / FOLDER / "requirements.txt").write_text("absent-package==1.2\n")
    with pytest.raises(ValueError, match=r"names what is not installed: pip install absent-package==1\.2"):
        ForeignHandler(folder, "a", 1, 60.0)
