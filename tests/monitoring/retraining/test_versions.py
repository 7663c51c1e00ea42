"""What there is to compare two versions by: labelled rows that can be answered again, and requests to send again."""

import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import httpx
import pytest

from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.versions import Service, Versions
from monitoring.store.contracts import Contracts
from monitoring.store.records import Feedback, Prediction
from serving.registry import ArchiveError, file_sha256
from tests.support.monitoring.loops import MODEL, START, Loop
from tests.support.serving.stores import add, contract_of_doubling
from training.statistics.pair import Pair

DAY = timedelta(days=1)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    yield loop
    loop.store.close()


def versions(loop: Loop, shadow_requests: int = 200) -> Versions:
    service = Service("http://server", httpx.Client(), loop.rollout)
    return Versions(loop.store, Contracts(loop.models), service, JudgePolicy(shadow_requests=shadow_requests))


def test_labelled_rows_are_those_that_the_champion_can_answer_again_and_whose_label_it_has(loop: Loop) -> None:
    contract, own = contract_of_doubling(), versions(loop)
    assert len(own.labelled(contract, START - DAY, 100)) == 20
    assert len(own.labelled(contract, START - timedelta(hours=5), 100)) == 6
    assert len(own.labelled(contract, START - DAY, 7)) == 7
    loop.store.add_predictions([Prediction("lacks", 0, MODEL, "1.0", START, {}, 2.0)])
    loop.store.add_feedback([Feedback("lacks", 0, 2.0, START)])
    loop.store.add_predictions([Prediction("odd", 0, MODEL, "1.0", START, {"x": 1.0}, 2.0)])
    loop.store.add_feedback([Feedback("odd", 0, "much", START)])
    assert len(own.labelled(contract, START - DAY, 100)) == 20


def test_requests_are_the_newest_that_can_be_sent_again(loop: Loop) -> None:
    contract = contract_of_doubling()
    assert versions(loop).requests(contract) == (20, 20)
    assert versions(loop, 8).requests(contract) == (8, 8)
    assert versions(loop, 0).requests(contract) == (0, 0)
    loop.store.add_predictions([Prediction("lacks", 0, MODEL, "1.0", START + DAY, {}, 2.0)])
    assert versions(loop, 8).requests(contract) == (7, 8)


def test_a_version_without_a_readable_archive_is_an_error(loop: Loop) -> None:
    with pytest.raises(ArchiveError, match=r"the archive of doubling 7\.0 cannot be read"):
        versions(loop).contracts(MODEL, Pair("1.0", "7.0"))


@pytest.mark.parametrize("file", ["hooks.py", "model.joblib", "model.pt"])
def test_an_archive_with_code_is_not_opened_here(loop: Loop, file: str) -> None:
    path = add(loop.models, MODEL, "1.1", "challenger")
    numbers = Pair("1.0", "1.1")
    assert versions(loop).code_in(MODEL, numbers) == ""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(file, "raise SystemExit")
    with loop.models.change() as models:
        models[MODEL]["1.1"].sha256 = file_sha256(path)
    own = versions(loop)
    assert own.code_in(MODEL, numbers) == f"doubling 1.1 holds {file}, code that the monitor does not run"
    assert own.compare(MODEL, numbers, []) is None
    verdict = own.admit(MODEL, numbers)
    assert [check.name for check in verdict.checks] == ["contract", "parity"]
    assert verdict.rows == 0


def test_without_requests_in_the_settings_nothing_is_shadowed(loop: Loop) -> None:
    assert versions(loop, 0).shadow(MODEL, Pair("1.0", "1.1"), Event(), decides=True) is None
