import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest

from tests.support.training import graphs
from tests.training.conftest import Commands
from training import recipes
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.table import read_table
from training.data import DataError, check_sha256, fetched_package, package_file, read_parquet, sha256

SUM = hashlib.sha256(b"right").hexdigest()


def test_the_sum_of_several_contents_is_that_of_all_together() -> None:
    assert sha256(b"ri", b"ght") == SUM


def test_content_with_the_right_sum_is_returned() -> None:
    assert check_sha256(b"right", SUM, "somewhere") == b"right"


def test_content_with_another_sum_is_an_error_with_source_and_both_sums() -> None:
    with pytest.raises(DataError, match=f"^somewhere: its SHA-256 is {sha256(b'wrong')}, not {SUM}: delete it and get"):
        check_sha256(b"wrong", SUM, "somewhere")


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "explosive_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "file.csv").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_file("explosive_package", "data/file.csv", "explosive") == package / "data" / "file.csv"
    assert "explosive_package" not in sys.modules


@pytest.mark.parametrize("package", ["no_such_package", "training", "ast"])
def test_a_missing_package_or_file_is_an_error_that_says_what_to_install(package: str) -> None:
    with pytest.raises(DataError, match=f"data.csv of the package {package} is not there: run `pip install it==1.0`"):
        package_file(package, "data.csv", "it==1.0")


WHEEL = "thing-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def wheel(folder: Path) -> bytes:
    """Makes the smallest wheel that pip accepts."""
    head = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("thing-1.0.dist-info/METADATA", head)
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    return (folder / WHEEL).read_bytes()


def test_a_packages_file_is_fetched_once_and_kept(index: Path, tmp_path: Path) -> None:
    content = wheel(index)
    cache = tmp_path / "cache"
    path = fetched_package("thing==1.0", WHEEL, sha256(content), cache)
    assert path == cache / WHEEL
    assert path.read_bytes() == content
    (index / WHEEL).unlink()
    assert fetched_package("thing==1.0", WHEEL, sha256(content), cache) == path
    assert list(cache.iterdir()) == [path]


def test_a_package_that_cannot_be_fetched_is_an_error_that_says_where_its_file_goes(
    index: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError) as raised:
        fetched_package("thing==1.0", WHEEL, SUM, cache, "--no-binary", ":all:")
    message = str(raised.value)
    assert message.startswith(f"{WHEEL} is not here and could not be fetched (ERROR: ")
    assert "run `pip download --no-deps --no-binary :all: thing==1.0`" in message
    assert message.endswith(f"put the file into {cache}.")
    assert list(cache.iterdir()) == []


def test_a_fetched_file_with_another_sum_is_refused(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"altered")
    with pytest.raises(DataError, match=f"{WHEEL}: its SHA-256 is "):
        fetched_package("thing==1.0", WHEEL, SUM, tmp_path)


ROWS = 60
KINDS = ("plain", "categorical", "with gaps", "whole numbers with gaps", "an index")


def rows_of(kind: str) -> pandas.DataFrame:
    """Rows of a colour and a size, in one of the forms that Parquet can hold."""
    rng = np.random.default_rng(0)
    colors, gone = pandas.Series(rng.choice(["red", "blue"], ROWS), name="color"), np.arange(ROWS) % 7 == 0
    frame = pandas.DataFrame({"color": colors, "size": rng.normal(size=ROWS), "y": rng.normal(size=ROWS)})
    forms = {
        "categorical": {"color": colors.astype("category")},
        "with gaps": {"color": colors.mask(gone), "size": frame["size"].mask(gone)},
        "whole numbers with gaps": {"size": pandas.array([None if g else i for i, g in enumerate(gone)], "Int64")},
    }
    return frame.assign(**forms.get(kind, {}))


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_describes_a_model_as_the_same_rows_in_csv_do(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    frame = rows_of(kind)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    (frame.set_index("color") if kind == "an index" else frame).to_parquet(tmp_path / "rows.parquet")
    file = graphs.save(graphs.TEXTS, tmp_path / "model.onnx")
    csv, parquet = (
        draft(sources.read(file), ImportOptions(name="model", data=tmp_path / f"rows.{suffix}", target="y"))
        for suffix in ("csv", "parquet")
    )
    assert parquet.contract.inputs == csv.contract.inputs
    for name, values in csv.rows.items():
        np.testing.assert_array_equal(parquet.rows[name], values)


def test_times_of_parquet_without_a_zone_are_no_numbers(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    when = pandas.date_range("2024-03-01", periods=ROWS, freq="6h")
    file = graphs.save("(int64[N] when) => (float[N] y) { y = Cast<to=1>(when) }", tmp_path / "model.onnx")
    pandas.DataFrame({"when": when}).to_parquet(tmp_path / "rows.parquet")
    options = ImportOptions(name="model", data=tmp_path / "rows.parquet")
    with pytest.raises(BringError, match="column 'when' has times without a zone"):
        draft(sources.read(file), options)
    pandas.DataFrame({"when": when.tz_localize("UTC")}).to_parquet(tmp_path / "rows.parquet")
    (spec,) = draft(sources.read(file), options).contract.inputs
    assert spec.timestamp


def test_a_recipe_is_written_and_loads_from_parquet(
    training: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    (tmp_path / "recipes").mkdir()
    monkeypatch.setenv("MARLOOP_RECIPES", str(tmp_path / "recipes"))
    frame = pandas.concat([rows_of("with gaps")] * 3, ignore_index=True)
    when = pandas.date_range("2024-03-01", periods=len(frame), freq="6h")
    frame.assign(when=when).to_parquet(tmp_path / "rows.parquet")
    code, output = training("new", "columns", "--csv", str(tmp_path / "rows.parquet"), "--target", "y")
    assert code == 0, output
    recipe = recipes.find("columns")
    data = recipe.load(recipe.preset(None), tmp_path)
    assert [spec.name for spec in data.inputs] == ["size", "color"]
    assert data.test.time is not None
    assert data.test.time.min() > data.train.time.max()  # type: ignore[union-attr]


def test_without_its_reader_parquet_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise ImportError("no engine")

    monkeypatch.setattr(pandas, "read_parquet", fail)
    expected = r"to read Parquet, run `pip install -c constraints.txt -e '\.\[parquet\]'`, or give the rows as CSV"
    with pytest.raises(DataError, match=expected):
        read_parquet(tmp_path / "rows.parquet")
    with pytest.raises(BringError, match=expected):
        read_table(tmp_path / "rows.parquet")
