"""What a long command keeps, so that it need not be made again, is made again where it is damaged."""

import logging
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import documents
from training.improve.practices import document
from training.improve.sharing.runs import Run
from training.language.weights import crc32
from training.packaging.serving_settings import FILE, choose, serving_of
from training.recipes.linear import Linear
from training.report.champion import ModelRow, Report

FLOATS = st.floats()
MODEL = ("model", "figures")  # fields of a row


@given(
    st.builds(Run, seed=st.integers(0, 2**63), epochs=st.integers(0), seconds=st.floats(0, 1e9), curve=st.lists(FLOATS))
)
def test_every_run_of_an_ablation_is_read_again(run: Run) -> None:
    again = documents.from_json(documents.to_json(run, Run), Run)
    assert documents.finite(again) == documents.finite(run)


def test_a_run_that_went_astray_has_null_for_what_is_no_number() -> None:
    again = documents.from_json(documents.to_json(Run(0, 1, 0.5, math.nan, math.inf, 1.0, [math.nan]), Run), Run)
    assert again == Run(0, 1, 0.5, None, None, 1.0, [None])


@pytest.mark.parametrize("content", [b"", b'{"seed": 1', b"[]", b"\xff"])
def test_a_kept_file_that_is_damaged_is_told_and_counts_as_none(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept.json"
    assert documents.read_kept(path, Run) is None
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert documents.read_kept(path, Run) is None
    assert f"{path} is damaged" in caplog.text
    assert "made anew" in caplog.text


@given(st.dictionaries(st.text().filter(lambda name: name not in MODEL), FLOATS | st.integers(-(2**53), 2**53)))
def test_every_result_of_a_command_is_read_by_the_page(
    tmp_path_factory: pytest.TempPathFactory, figures: dict[str, float]
) -> None:
    folder = tmp_path_factory.mktemp("results")
    row = ModelRow(model="linear, preset default", figures=figures)
    known: dict[str, Any] = {"fit_seconds": 0.1, "parity": {}, "intervals": {}, "gains": {}, "calibration": None}
    result = Report(model="linear", seconds=0.1, machine="", held_out=1, primary="rmse", rows=[row], **known)
    document.write_result(result, folder)
    again = document.read_results(folder)["report-linear"]
    assert again.to_document() == documents.finite(result.to_document())


@given(batch=st.integers(1, 10**6), delay=st.integers(1, 10**6), workers=st.integers(1, 10**4))
def test_every_choice_of_serving_settings_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, batch: int, delay: int, workers: int
) -> None:
    store = tmp_path_factory.mktemp("store")
    changes = {"batch_size": batch, "max_batch_delay": delay, "workers": workers}
    chosen = choose(Linear(), changes, store)
    assert serving_of(Linear(), store) == chosen
    assert (store / FILE).stat().st_mode & 0o777 == 0o600


def test_unpacked_weights_of_the_right_size_and_wrong_content_are_told_apart(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "weights").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "package", "w") as package:
        package.writestr("weights", content)
    member = zipfile.ZipFile(tmp_path / "package").getinfo("weights")
    assert crc32(tmp_path / "weights") == member.CRC
    (tmp_path / "weights").write_bytes(b"x" + content[1:])
    assert crc32(tmp_path / "weights") != member.CRC
