"""Workers on several machines share a search and an ablation; what one of them leaves undone, the others do."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from serving.settings import ROOT, Folders
from tests.support.monitoring.databases import new_database, postgresql
from tests.training.improve.sharing.workers import ONLY, SEEDS, TRIALS, Corners
from training.__main__ import app
from training.improve.ablate import ablate
from training.improve.budget import Budget, within
from training.improve.sharing.database import StorageError, reachable, storage_url

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[search]'")
from optuna.trial import TrialState  # noqa: E402

from training.improve import search  # noqa: E402
from training.improve.sharing import study as studies  # noqa: E402


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as url:
        yield url


def work(command: str, url: str, folder: Path) -> list[dict[str, Any]]:
    """The results of the two workers that live."""
    program = [sys.executable, "-m", "tests.training.improve.sharing.workers", command, url, str(folder)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "machine-0.json").exists()
    return [msgspec.json.decode((folder / f"machine-{number}.json").read_bytes()) for number in (1, 2)]


def same(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what is of a machine."""
    return {name: value for name, value in result.items() if name not in ("machine", "seconds")}


def test_a_search_of_three_workers_tries_a_killed_ones_trial_again(server: str, tmp_path: Path) -> None:
    url = new_database(server, "search")
    results = work("search", url, tmp_path)
    assert same(results[0]) == same(results[1])
    assert results[0]["seconds"] == results[1]["seconds"]
    recipe = Corners()
    study = studies.open_study(
        recipe, recipe.preset(None), within(recipe.load(recipe.preset(None), Path()), None), tmp_path, url=url
    )
    (killed,) = study.get_trials(states=(TrialState.FAIL,))
    assert killed.user_attrs[studies.PROCESS][0] == "machine-0"
    (again,) = (trial for trial in study.trials if trial.system_attrs.get("failed_trial") == killed.number)
    assert again.state in studies.FINISHED
    assert again.params == killed.params
    finished = study.get_trials(states=studies.FINISHED)
    assert {trial.user_attrs[studies.PROCESS][0] for trial in finished} == {"machine-0", "machine-1", "machine-2"}
    assert sum(bool(trial.user_attrs.get(studies.PRESET)) for trial in finished) == 1
    assert len(results[0]["trials"]) == len(finished)
    assert TRIALS <= len(finished) <= TRIALS + 2
    compared = [line for line in (tmp_path / "notes").read_text().splitlines() if "seed=0" not in line]
    assert len(compared) == 2 * SEEDS  # each training of the comparison once
    # It is there for the next.
    later = search.search(
        Corners(tmp_path / "later"), Folders(tmp_path, tmp_path), Budget(trials=TRIALS, seeds=SEEDS), url=url
    )
    assert same(later.to_document()) == same(results[0])
    assert not (tmp_path / "later").exists()


def test_an_ablation_of_three_workers_trains_each_variant_once(server: str, tmp_path: Path) -> None:
    url = new_database(server, "ablation")
    results = work("ablate", url, tmp_path)
    assert same(results[0]) == same(results[1])
    alone = ablate(Corners(), Folders(tmp_path, tmp_path / "alone"), Budget(seeds=SEEDS), only=ONLY).to_document()
    for row, expected in zip(results[0]["rows"], alone["rows"], strict=True):
        assert row | {"seconds": 0} == pytest.approx(expected | {"seconds": 0})
    notes = Counter(line.split(" ", 1)[1] for line in (tmp_path / "notes").read_text().splitlines())
    assert len(notes) == (1 + len(ONLY)) * SEEDS
    assert sorted(notes.values())[:-1] == [1] * (len(notes) - 1)
    assert max(notes.values()) == 2  # the one that was killed


def test_a_worker_whose_trial_was_given_to_another_goes_on_with_the_next(tmp_path: Path) -> None:
    class Slept(Corners):
        """Its second trial was taken for killed, while it slept."""

        def module(self, hp: Any, data: Any) -> Any:
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if [trial.number for trial in running] == [1]:
                study.tell(1, state=TrialState.FAIL)
            return super().module(hp, data)

    recipe, told = Slept(), list[str]()
    hp = recipe.preset(None)
    data = within(recipe.load(hp, Path()), None)
    study = studies.open_study(recipe, hp, data, tmp_path, 0)
    search.Worker(study, recipe, hp, data, told.append).run(Budget(trials=3))
    assert [trial.state.name for trial in study.trials if trial.number != 1][:1] == ["COMPLETE"]
    assert study.trials[1].state == TrialState.FAIL
    assert len(study.get_trials(states=studies.FINISHED)) == 3
    assert "trial 1 is tried again: this worker showed no sign of life for too long" in told


def test_the_storage_is_of_the_option_else_of_the_environment_and_must_be_postgresql() -> None:
    environ = {"MARLOOP_SEARCH_STORAGE": "postgres://a@b/c"}
    assert storage_url("", {}) == ""
    assert storage_url("", environ) == "postgresql+psycopg://a@b/c"
    assert storage_url("postgresql+psycopg://d/e", environ) == "postgresql+psycopg://d/e"
    for wrong in ("sqlite:///a.db", "a.db", "mysql://a/b"):
        with pytest.raises(ValueError, match="it must be postgresql://"):
            storage_url(wrong, {})
    with pytest.raises(ValueError, match="no URL of a database"):
        storage_url("postgresql://host:port/a", {})


@pytest.mark.parametrize("command", ["search", "ablate"])
def test_a_storage_that_does_not_answer_is_told_without_its_password(command: str, tmp_path: Path) -> None:
    storage = "postgresql://someone:secret@127.0.0.1:1/none"
    options = ["linear", f"--storage={storage}", f"--runs={tmp_path}", f"--output={tmp_path}", "--epochs=1"]
    done = CliRunner().invoke(app, [command, *options])
    assert done.exit_code == 1
    assert "cannot use the storage postgresql+psycopg://someone:***@127.0.0.1:1/none" in done.output
    assert "secret" not in done.output


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="a recipe's"), reachable("postgresql+psycopg://a/b"):
        raise ValueError("a recipe's")
    with pytest.raises(ModuleNotFoundError), reachable(""):
        raise ModuleNotFoundError("no", name="other")
    with pytest.raises(StorageError, match=r"pip install .*postgres"), reachable(""):
        raise ModuleNotFoundError("no", name="psycopg")
