"""What is measured of champions works on an imported one, with rows that are given; else a sentence says what lacks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import joblib
import msgspec
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from handlers.engine import load_engine
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from serving import archive
from serving.registry import Registry
from tests.support.training import graphs
from tests.support.training.exporters import FORMATS
from tests.support.training.kinds import unconverted
from tests.support.training.pages import Page
from training.__main__ import app
from training.improve.formats import exporting
from training.improve.optimize import flow, measure
from training.improve.optimize.quantize import INT8, datatypes
from training.packaging import contents

Command = Callable[..., tuple[int, str]]
LABELS = ("low", "middle", "high")
RATES = "age,income,debt,rate\n" + "".join(f"{i},{i % 7},{i % 3},{i + 2 * (i % 7) + 3 * (i % 3)}\n" for i in range(300))
HOOKS = "def postprocess(outputs):\n    return {'cents': 100 * outputs['variable'][:, 0]}\n"


def scored_rows(rows: int = 300) -> str:
    """Rows of the graph of logits, one in ten with another class than its likeliest."""
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    likeliest = (x @ np.array([[1, 0, -1], [0, 2, 1]])).argmax(1)
    classes = np.where(np.arange(rows) % 10, likeliest, (likeliest + 1) % 3)
    lines = (f"{a:.6f},{b:.6f},{LABELS[k]}\n" for (a, b), k in zip(x, classes, strict=True))
    return "first,second,class\n" + "".join(lines)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs a command on this test's store."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        environ = {"MARLOOP_MODEL_STORE": str(tmp_path / "store"), "MARLOOP_LITERT_PYTHON": str(tmp_path / "nowhere")}
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environ, catch_exceptions=False)
        return done.exit_code, done.output

    return run


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Rows whose truth the regression knows."""
    (tmp_path / "rates.csv").write_text(RATES)
    return tmp_path / "rates.csv"


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Rows with three classes."""
    (tmp_path / "classes.csv").write_text(scored_rows())
    return tmp_path / "classes.csv"


def bring(command: Command, text: str, folder: Path, *options: str | Path) -> None:
    file = graphs.save(text, folder / "model.onnx")
    code, output = command("import", file, "--name", "credit", *options)
    assert code == 0, output


def given(rows: Path, target: str = "rate") -> tuple[str | Path, ...]:
    return "--data", rows, "--target", target


def page_of(folder: Path, version: str = "1.0") -> Page:
    return Page((folder / "store" / "reports" / f"credit-{version}.html").read_text())


def test_a_report_measures_a_regression_on_given_rows(command: Command, rates: Path, tmp_path: Path) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    code, output = command("report", "credit", *given(rates), "--output", tmp_path / "figures")
    assert code == 0, output
    page = page_of(tmp_path)
    assert "300 given rows" in page.root.words()
    assert "It has no recipe, so that there are no learning curves" in page.root.words()
    assert "mean" in page.section("metrics").words()
    assert page.all("h2")[1].words() == "Residuals"
    figures = msgspec.json.decode((tmp_path / "figures" / "report-credit.json").read_bytes())
    assert [row["model"] for row in figures["rows"]] == ["credit", "mean"]
    assert figures["rows"][0]["rmse"] == pytest.approx(0, abs=1e-4)
    assert figures["given"] is True


def test_a_matrix_takes_the_columns_of_the_rows_in_their_order(command: Command, classes: Path, tmp_path: Path) -> None:
    bring(command, graphs.LOGITS, tmp_path, "--labels", ",".join(LABELS))
    code, output = command("report", "credit", *given(classes, "class"), "--output", tmp_path / "figures")
    assert code == 0, output
    figures = msgspec.json.decode((tmp_path / "figures" / "report-credit.json").read_bytes())
    assert figures["rows"][0]["accuracy"] == pytest.approx(0.9)
    assert [row["model"] for row in figures["rows"]] == ["credit", "majority"]
    page = page_of(tmp_path)
    assert "low taken for" in page.section("quality").words()
    assert page.section("calibration").words().startswith("Calibration")


def test_the_given_rows_measure_as_those_of_the_import(command: Command, classes: Path, tmp_path: Path) -> None:
    bring(command, graphs.LOGITS, tmp_path, "--labels", ",".join(LABELS), *given(classes, "class"))
    assert command("report", "credit", *given(classes, "class"), "--output", tmp_path / "figures")[0] == 0
    figures = msgspec.json.decode((tmp_path / "figures" / "report-credit.json").read_bytes())
    measured = Registry(tmp_path / "store").champion_contract("credit").evaluation
    assert figures["rows"][0]["auc"] == pytest.approx(measured.metrics["auc"], abs=1e-6)
    assert figures["held_out"] == measured.rows == 300


def test_each_of_several_targets_is_measured(command: Command, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,up,down\n" + "".join(f"{i},{i % 7},{i + i % 7},{i - i % 7 + 1}\n" for i in range(60)))
    text = "(float[N] a, float[N] b) => (float[N] up, float[N] down) { up = Add(a, b) down = Sub(a, b) }"
    bring(command, text, tmp_path, *given(rows, "up,down"))
    code, output = command("report", "credit", *given(rows, "up,down"), "--output", tmp_path / "figures")
    assert code == 0, output
    figures = msgspec.json.decode((tmp_path / "figures" / "report-credit.json").read_bytes())
    assert (figures["rows"][0]["rmse"], figures["rows"][0]["rmse of down"]) == pytest.approx((0, 1), abs=1e-6)


WITHOUT_ROWS = "credit was imported, so that no recipe has rows to measure it on: give some with their truth, --data"


@pytest.mark.parametrize("verb", ["report", "optimize"])
def test_without_labelled_rows_the_error_says_how_to_give_them(command: Command, rates: Path, verb: str) -> None:
    bring(command, graphs.REGRESSION, rates.parent)
    for options in ((), ("--data", rates)):
        code, output = command(verb, "credit", *options)
        assert code == 1
        assert WITHOUT_ROWS in output


@pytest.mark.parametrize("verb", ["report", "optimize"])
def test_tensors_have_no_metric(command: Command, rates: Path, verb: str) -> None:
    bring(command, graphs.HEADS, rates.parent)
    code, output = command(verb, "credit", *given(rates))
    assert code == 1
    assert "credit answers tensors, which no metric compares with a truth" in output


@pytest.mark.parametrize("verb", ["report", "export", "optimize"])
def test_a_model_without_a_graph_says_so(
    command: Command, rates: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(command, graphs.REGRESSION, rates.parent)
    monkeypatch.setattr(archive, "entry_point", lambda path: contents.FOREIGN)
    expected = f"error: credit is served by a handler of its own: {verb} takes models of graphs\n"
    assert command(verb, "credit") == (1, expected)


def test_a_model_with_a_recipe_takes_no_rows(command: Command, rates: Path) -> None:
    expected = "error: linear has a recipe with data of its own; --data and --target are for imported models\n"
    assert command("report", "linear", *given(rates)) == (1, expected)


def test_rows_that_do_not_fit_are_named(command: Command, rates: Path, tmp_path: Path) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    (tmp_path / "others.csv").write_text("age,rate\n1,2\n")
    code, output = command("report", "credit", "--data", tmp_path / "others.csv", "--target", "rate")
    assert (code, "others.csv has no column 'income'; it has age" in output) == (1, True)


def test_missing_values_are_asked_as_clients_send_them(command: Command, tmp_path: Path) -> None:
    rows = tmp_path / "gaps.csv"
    rows.write_text("age,debt,y\n,3,23\n" + "".join(f"{i % 40},{i % 9},{i % 40 + i % 9}\n" for i in range(100)))
    bring(command, graphs.GAPS, tmp_path, *given(rows, "y"))
    assert command("report", "credit", *given(rows, "y"), "--output", tmp_path / "figures")[0] == 0
    figures = msgspec.json.decode((tmp_path / "figures" / "report-credit.json").read_bytes())
    assert figures["rows"][0]["rmse"] == pytest.approx(0, abs=1e-4)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are measured once, and memory not at all."""
    monkeypatch.setattr(exporting, "ROUNDS", 1)
    monkeypatch.setattr(measure, "session_bytes", lambda *arguments: 1_000_000)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [param for param in FORMATS if param.values[0] in ("onnx", "openvino")])
def test_a_format_that_is_made_of_onnx_is_written_and_compared(
    command: Command, rates: Path, tmp_path: Path, name: str
) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    code, output = command("export", "credit", "--format", name, *given(rates), "--output", tmp_path / "exports",
                           "--report", tmp_path / "figures")  # fmt: skip
    assert code == 0, output
    figures = msgspec.json.decode((tmp_path / "figures" / "export-credit.json").read_bytes())
    assert (figures["compared_rows"], figures["rows"][0]["format"]) == (300, name)
    assert figures["rows"][0]["max_relative_difference"] < 1e-5
    assert (tmp_path / "exports" / figures["rows"][0]["file"]).stat().st_size
    assert "credit 1.0 against its graph on 300 rows" in output


@pytest.mark.usefixtures("quick")
def test_without_rows_the_example_is_compared_and_other_formats_say_what_they_need(
    command: Command, tmp_path: Path
) -> None:
    bring(command, graphs.HEADS, tmp_path)
    code, output = command(
        "export", "credit", "--format", "onnx", "--format", "torch", "--output", tmp_path / "exports"
    )
    assert code == 1
    assert "credit was imported as ONNX, and the format torch is made of a program of torch.export" in output
    exported = onnx.load(tmp_path / "exports" / "credit-1.0.onnx")
    archive.unpack(tmp_path / "store" / "credit-1.0.mar", tmp_path / "unpacked")
    assert exported == onnx.load(tmp_path / "unpacked" / "model.onnx")
    assert "against its graph on 1 rows" in output


@pytest.mark.usefixtures("quick")
def test_rows_that_a_graph_takes_one_at_a_time_are_compared_so(command: Command, rates: Path, tmp_path: Path) -> None:
    bring(command, graphs.CENTRED, tmp_path)
    code, output = command("export", "credit", "--format", "onnx", "--output", tmp_path / "exports")
    assert code == 0, output
    assert "–" in output  # no time of 64 rows
    code, output = command("optimize", "credit", *given(rates))
    assert code == 1
    assert "error: credit " in output


@pytest.mark.usefixtures("quick")
def test_hooks_are_measured_and_no_format_holds_them(command: Command, rates: Path, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    bring(command, graphs.REGRESSION, tmp_path, "--hooks", tmp_path / "hooks.py")
    assert command("report", "credit", *given(rates))[0] == 0
    code, output = command("export", "credit")
    assert code == 1
    assert "credit answers by hooks.py, which is Python: export takes a graph alone" in output


@pytest.fixture
def optimize(command: Command, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Optimizes, and chooses a variant, which else depends on how fast the machine is."""

    def run(chosen: str | None, *options: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(flow, "choose", lambda rows, max_drop, batched: chosen)
        return command("optimize", "credit", *options, "--seconds", "0", "--output", tmp_path / "figures")

    return run


@pytest.mark.parametrize("variant", ["int8 dynamic", "int8 static"])
def test_the_chosen_variant_takes_the_place_of_the_import(
    command: Command, optimize: Command, classes: Path, tmp_path: Path, variant: str
) -> None:
    bring(command, graphs.LOGITS, tmp_path, "--labels", ",".join(LABELS), *given(classes, "class"))
    code, output = optimize(variant, *given(classes, "class"))
    assert code == 0, output
    assert "not made: pruned, distilled (a smaller network learns again, which needs a recipe)" in output
    registry = Registry(tmp_path / "store")
    contract, before = registry.champion_contract("credit"), registry.contract(registry.models()["credit"]["1.0"])
    assert (contract.version, contract.lineage.optimized["variant"]) == ("1.1", variant)
    assert contract.lineage.imported == before.lineage.imported
    assert (contract.inputs, contract.labels, contract.max_rows) == (before.inputs, before.labels, before.max_rows)
    assert contract.example.request.keys() == before.example.request.keys()
    assert contract.evaluation.rows == 240  # one row in five calibrates
    assert contract.evaluation.metrics["accuracy"] == pytest.approx(0.9, abs=0.05)
    assert contract.reference.rows == 300
    assert contract.lineage.parity["onnxruntime"] > 1e-6
    unpacked = tmp_path / "unpacked"
    archive.unpack(registry.store / "credit-1.1.mar", unpacked)
    assert datatypes(unpacked / "model.onnx") & set(INT8)
    ModelHandler(contract, load_engine("onnxruntime", unpacked, contract, 1), Codec(contract, 16)).check_example()
    assert page_of(tmp_path, "1.1").root.words().count("240 given rows")
    (figures,) = (tmp_path / "figures").glob("*.json")
    rows = {row["variant"]: row for row in msgspec.json.decode(figures.read_bytes())["rows"]}
    assert rows.keys() >= {"float32", "int8 dynamic", "int8 static"}
    assert rows["float32"]["parameters"] >= 6


def test_a_variant_of_an_import_is_not_optimized_again(
    command: Command, optimize: Command, rates: Path, tmp_path: Path
) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    assert optimize("int8 static", *given(rates))[0] == 0
    code, output = optimize("int8 static", *given(rates))
    assert code == 1
    assert "credit 1.1 is int8 static of 1.0 already: import it again, or go back" in output


def test_where_none_is_better_the_store_stays(command: Command, optimize: Command, rates: Path, tmp_path: Path) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    code, output = optimize(None, *given(rates))
    assert code == 0, output
    assert "The champion stays" in output
    assert list(Registry(tmp_path / "store").models()["credit"]) == ["1.0"]


@pytest.mark.usefixtures("quick")
def test_a_model_of_texts_is_reported_exported_and_optimized(
    command: Command, optimize: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "transformers is not installed: pip install -e '.[import-huggingface]'"
    huggingface = pytest.importorskip("tests.support.training.huggingface", reason=reason)
    folder = huggingface.save(tmp_path / "mood", "Bert", "ForSequenceClassification", id2label=huggingface.EMOTIONS)
    code, output = command("import", folder, "--name", "credit")
    assert code == 0, output
    texts = tmp_path / "texts.csv"
    moods = list(huggingface.EMOTIONS.values())
    lines = (f"{huggingface.TEXTS[i % 5]} {'again ' * (i % 4)},{moods[i % 3]}\n" for i in range(60))
    texts.write_text("text,mood\n" + "".join(lines))
    assert command("report", "credit", *given(texts, "mood"))[0] == 0
    mistakes = page_of(tmp_path).section("mistakes").words()
    assert any(text in mistakes for text in huggingface.TEXTS[:5])  # which are the worst is a matter of chance
    code, output = command(
        "export", "credit", "--format", "onnx", *given(texts, "mood"), "--output", tmp_path / "exports"
    )
    assert code == 0, output
    assert "on 60 rows" in output
    monkeypatch.chdir(tmp_path / "exports")
    before = sorted(Path().iterdir())
    code, output = optimize("int8 dynamic", *given(texts, "mood"))
    assert code == 0, output
    assert sorted(Path().iterdir()) == before
    assert Registry(tmp_path / "store").champion("credit").number == "1.1"


def test_a_file_that_is_served_as_it_is_is_reported_and_says_what_else_it_lacks(
    command: Command, tmp_path: Path
) -> None:
    joblib.dump(unconverted.kernel_ridge(), tmp_path / "ridge.joblib")
    frame = unconverted.frame()
    frame.assign(truth=unconverted.truth(frame)).to_csv(tmp_path / "rows.csv", index=False)
    rows = given(tmp_path / "rows.csv", "truth")
    code, output = command("import", tmp_path / "ridge.joblib", "--name", "credit", "--trust", *rows)
    assert code == 0, output
    code, output = command("report", "credit", *rows)
    assert code == 0, output
    assert "120 given rows" in page_of(tmp_path).root.words()
    code, output = command("export", "credit", *rows)
    assert (code, "credit has no ONNX graph, which export of an imported model starts from" in output) == (1, True)
    code, output = command("optimize", "credit", *rows)
    assert (code, "credit is served by the engine python; variants are graphs of ONNX" in output) == (1, True)


def test_its_archive_is_packaged_again_without_a_recipe(command: Command, rates: Path, tmp_path: Path) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    code, output = command("package", "credit", "--profile", "latency")
    assert code == 0, output
    registry = Registry(tmp_path / "store")
    assert registry.champion("credit").number == "1.1"
    assert archive.read_config(registry.store / "credit-1.1.mar")["batchSize"] == 1
    before, after = (registry.contract(version) for version in registry.models()["credit"].values())
    assert after.example == before.example
    assert after.lineage.packaged_from == "1.0"


def test_training_it_needs_a_recipe(command: Command, rates: Path, tmp_path: Path) -> None:
    bring(command, graphs.REGRESSION, tmp_path, *given(rates))
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    code, output = command("train", "credit")
    assert code == 1
    assert "there is no recipe 'credit'" in output
    assert "A model that was imported has none" in output
