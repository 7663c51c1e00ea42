"""What was chosen for a model stays chosen, and reaches its archive without training again."""

import json
import shutil
import zipfile
from pathlib import Path

import onnxruntime
import pytest
import yaml
from typer.testing import CliRunner

from serving import archive
from serving.registry import Note, Registry, file_sha256
from tests.support.training.trainings import Trainings
from training.__main__ import app
from training.packaging.contents import model_config, serving_in
from training.packaging.registration import Result
from training.packaging.serving_settings import FILE, choose, serving_of
from training.recipe import Serving
from training.recipes.linear import Linear


def test_without_a_choice_the_recipes_own_settings_hold(tmp_path: Path) -> None:
    assert serving_of(Linear(), tmp_path) == Linear.serving
    assert list(tmp_path.iterdir()) == []


def test_a_choice_is_kept_and_the_next_one_adds_to_it(tmp_path: Path) -> None:
    choose(Linear(), {"batch_size": 8}, tmp_path)
    assert choose(Linear(), {"workers": 2}, tmp_path) == Serving(batch_size=8, workers=2)
    assert serving_of(Linear(), tmp_path) == Serving(batch_size=8, workers=2)


def test_choosing_the_recipes_own_settings_leaves_no_entry(tmp_path: Path) -> None:
    choose(Linear(), {"batch_size": 8}, tmp_path)
    choose(Linear(), {"batch_size": Linear.serving.batch_size}, tmp_path)
    assert json.loads((tmp_path / FILE).read_text()) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"linear": {"batchsize": 8}}', '{"linear": {"min_replicas": 0}}'])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=str(tmp_path / FILE)):
        serving_of(Linear(), tmp_path)


def test_a_champion_is_packaged_again_with_the_profile_and_the_same_graph(
    trained: Trainings, linear: Result, tmp_path: Path
) -> None:
    store = shutil.copytree(trained.registry.store, tmp_path / "store")
    options = ["--profile", "latency", "--workers", "2", "--store", str(store)]
    done = CliRunner().invoke(app, ["package", "linear", *options])
    assert done.exit_code == 0, done.output
    registry = Registry(store)
    number, version = registry.champions()["linear"]
    assert number == "1.1"
    with zipfile.ZipFile(store / version.archive) as new, zipfile.ZipFile(linear.archive) as old:
        config = yaml.safe_load(new.read("model-config.yaml"))
        assert (config["batchSize"], config["maxBatchDelay"], config["minWorkers"]) == (1, 1, 2)
        assert new.read("model.onnx") == old.read("model.onnx")
    contract = registry.champion_contract("linear")
    assert (contract.version, contract.lineage.packaged_from) == ("1.1", "1.0")
    assert contract.evaluation == linear.contract.evaluation


def test_a_contract_of_a_newer_version_is_not_packaged_again_without_what_it_says(
    trained: Trainings, linear: Result, tmp_path: Path
) -> None:
    registry = Registry(shutil.copytree(trained.registry.store, tmp_path / "store"))
    number, version = registry.champions()["linear"]
    path = registry.store / version.archive
    contract = json.loads(archive.read_file(path, archive.CONTRACT))
    contract["lineage"]["gpu"] = "H200"
    contract["evaluation"]["metrics"]["own"] = 1.0  # a name of somebody's own, in a map of such
    contract["reference"]["output"] |= {"shape": None}
    path.write_bytes(archive.rewritten(path.read_bytes(), {archive.CONTRACT: json.dumps(contract).encode()}))
    with registry.change(Note("")) as models:
        models["linear"][number].sha256 = file_sha256(path)
    done = CliRunner().invoke(app, ["package", "linear", "--store", str(registry.store)])
    assert done.exit_code == 1
    told = " ".join(done.output.split())
    assert "its contract has lineage.gpu, reference.output.shape, which this version of Marloop does not know" in told
    assert list(registry.models()["linear"]) == [number]


def test_an_unknown_profile_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["package", "linear", "--profile", "speed", "--store", str(tmp_path)])
    assert done.exit_code == 1
    assert "latency, throughput" in done.output


def test_a_device_that_this_machine_lacks_is_refused_and_not_kept(
    trained: Trainings, linear: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shutil.copytree(trained.registry.store, tmp_path / "store")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    done = CliRunner().invoke(app, ["package", "linear", "--device", "cuda", "--store", str(store)])
    assert done.exit_code == 1
    assert "install onnxruntime-gpu in place of onnxruntime" in " ".join(done.output.split())
    assert serving_of(Linear(), store).device == "cpu"
    assert list(Registry(store).models()["linear"]) == ["1.0"]


def test_a_device_is_written_into_the_archives_settings_and_read_from_them() -> None:
    config = model_config(Serving(engine="torch", device="cuda:1"))
    assert config["handler"]["device"] == "cuda:1"
    assert (serving_in(config).engine, serving_in(config).device) == ("torch", "cuda:1")
    assert "device" not in model_config(Serving())["handler"]


def test_a_process_of_its_own_is_written_into_the_archives_settings_and_stays_chosen(
    trained: Trainings, linear: Result, tmp_path: Path
) -> None:
    store = shutil.copytree(trained.registry.store, tmp_path / "store")
    for options in (["--isolated"], ["--workers", "2"], ["--shared"]):
        done = CliRunner().invoke(app, ["package", "linear", *options, "--store", str(store)])
        assert done.exit_code == 0, done.output
        config = archive.read_config(store / Registry(store).champions()["linear"][1].archive)
        assert config["handler"].get("isolated", False) is (options != ["--shared"])
        assert serving_in(config).isolated is (options != ["--shared"])
        assert config["responseTimeout"] >= (20 if options != ["--shared"] else 1)
    assert "isolated" not in model_config(Serving())["handler"]


def test_numbers_of_replicas_are_written_into_the_archives_settings_and_stay_chosen(
    trained: Trainings, linear: Result, tmp_path: Path
) -> None:
    store = shutil.copytree(trained.registry.store, tmp_path / "store")
    chosen = ["--min-replicas", "1", "--max-replicas", "4", "--target-ongoing-requests", "8"]
    for options in (chosen, ["--workers", "2"]):
        done = CliRunner().invoke(app, ["package", "linear", *options, "--store", str(store)])
        assert done.exit_code == 0, done.output
        config = archive.read_config(store / Registry(store).champions()["linear"][1].archive)
        assert config["autoscaling"] == {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8}
        assert serving_in(config).max_replicas == 4
    assert "autoscaling" not in model_config(Serving())


def test_fewer_replicas_than_the_fewest_are_refused_and_not_kept(
    trained: Trainings, linear: Result, tmp_path: Path
) -> None:
    store = shutil.copytree(trained.registry.store, tmp_path / "store")
    options = ["--min-replicas", "4", "--max-replicas", "2", "--store", str(store)]
    done = CliRunner().invoke(app, ["package", "linear", *options])
    assert done.exit_code == 1
    assert "max_replicas is 2; it must be at least 4" in " ".join(done.output.split())
    assert serving_of(Linear(), store) == Linear.serving
    assert list(Registry(store).models()["linear"]) == ["1.0"]
