"""What no recipe can be made of is told in a sentence, and nothing is written."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest

from tests.training.conftest import Commands
from tests.training.recipe.conftest import TABLES, New
from training import recipes

MIXED = TABLES["mixed"].frame
HEAD = MIXED.head(49)
DAYS = pandas.Series(pandas.date_range("2024-01-01", periods=400, freq="D"))
BAD: dict[str, tuple[Callable[[], bytes | pandas.DataFrame], str]] = {
    "no rows": (lambda: b"", "mine.csv is empty"),
    "few rows": (lambda: HEAD, "mine.csv has 49 rows; at least 50 are needed"),
    "no such column": (lambda: MIXED.drop(columns="bought"), "has no column 'bought'; it has row, gap, kind"),
    "one class": (lambda: MIXED.assign(bought="no"), "the target 'bought' is 'no' in every row: nothing to learn"),
    "no truth": (lambda: MIXED.assign(bought=None), "the target 'bought' is 'missing' in every row"),
    "many classes": (
        lambda: MIXED.assign(bought=[f"c{i}" for i in range(400)]),
        "the target 'bought' has 400 different values; a classification has at most 100",
    ),
    "twice the same name": (
        lambda: b"x,x,bought\n" + b"1,2,a\n1,3,b\n" * 50,
        "mine.csv has two columns named 'x': rename one",
    ),
    "no header": (lambda: b"1,2,3\n" * 99, "the first line has numbers; it must name the columns"),
    "one column": (lambda: b"bought\nyes\nno\n" * 99, "the first line has one column; separators are a comma, a"),
    "a spreadsheet": (
        lambda: b"PK\x03\x04" + bytes(99),
        "mine.csv is a spreadsheet or an archive: save its rows as CSV",
    ),
    "gzip": (lambda: gzip.compress(MIXED.to_csv().encode()), "mine.csv is compressed: unpack it first"),
    "bzip2": (lambda: bz2.compress(MIXED.to_csv().encode()), "mine.csv is compressed: unpack it first"),
    "xz": (lambda: lzma.compress(MIXED.to_csv().encode()), "mine.csv is compressed: unpack it first"),
    "Parquet": (lambda: b"PAR1" + bytes(99), "mine.csv is Parquet, which is read where the name ends in .parquet"),
    "zero bytes": (lambda: b"x,bought\n\0,1\n" * 60, "mine.csv is no text: it has zero bytes"),
    "ragged": (lambda: b"x,bought\n" + b"1,a\n2,b\n" * 50 + b"1,2,3,4\n", "is no table: "),
    "a long name": (
        lambda: MIXED.rename(columns={"gap": "g" * 99}),
        "… is no name of at most 80 characters that can be shown",
    ),
    "nothing to learn from": (
        lambda: MIXED[["row", "land", "bought"]],
        "no column is left to learn from: row (identifies rows); land (always NZ)",
    ),
    "names that become the same": (
        lambda: MIXED.assign(**{"gap!": MIXED["gap"] + 1}),
        "two columns become the same input",
    ),
}


@pytest.mark.parametrize("fault", sorted(BAD))
def test_a_file_that_is_no_table_to_learn_from_is_refused(new: New, folder: Path, fault: str) -> None:
    content, sentence = BAD[fault]
    code, output = new(content(), "bought")
    assert code == 1
    assert output.startswith("error: ")
    assert sentence in output
    assert output.count("\n") == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (DAYS.dt.strftime("%Y-%m-%d").where(DAYS.index % 3 > 0, DAYS.dt.strftime("%d.%m.%Y")), "in several formats"),
        (DAYS.dt.strftime("%m/%m/%Y"), "of which day and month are unclear: write Y-M-D"),
        (pandas.Series(np.arange(400.0)), "'when' has no times: neither dates nor seconds since 1970"),
        (MIXED["kind"], "'when' has no times"),
        (None, "there is no column 'when' to split by"),
    ],
)
def test_a_column_to_split_by_must_have_times_of_one_form(
    new: New, folder: Path, days: pandas.Series | None, sentence: str
) -> None:
    frame = MIXED if days is None else MIXED.assign(when=days)
    code, output = new(frame, "bought", "--time", "when")
    assert code == 1
    assert sentence in output
    assert list(folder.iterdir()) == []
    code, output = new(frame, "bought")  # without being asked, such a column does not stop a recipe
    assert code == 0, output
    assert "split at random" in output


@pytest.mark.parametrize("name", ["my-model", "1st", "class", "_mine", "größe", "a b", "find", "linear", "dev"])
def test_a_name_that_cannot_be_a_recipes_is_refused(new: New, folder: Path, tmp_path: Path, name: str) -> None:
    code, output = new(MIXED, "bought", name=name)
    taken = "choose another name\n" if name == "linear" else "choose another\n"
    assert code == 1
    assert output.endswith(taken if name in ("find", "linear", "dev") else "and no word of Python\n")
    assert list(folder.iterdir()) == []


def test_without_a_folder_of_ones_own_a_name_of_the_package_is_refused(
    training: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARLOOP_RECIPES", raising=False)
    options = ("--csv", "nowhere.csv", "--target", "y")
    assert training("new", "find", *options) == (
        1,
        "error: the name 'find' has a meaning of its own here: choose another\n",
    )
    assert (
        "linear.py exists: choose another name, or overwrite it by --force\n" in training("new", "linear", *options)[1]
    )


def test_a_recipe_is_overwritten_by_force_only(new: New, folder: Path) -> None:
    assert new(MIXED, "bought")[0] == 0
    (folder / "mine.py").write_text("# edited\n")
    code, output = new(MIXED, "bought")
    assert code == 1
    assert output.endswith("mine.py exists: choose another name, or overwrite it by --force\n")
    assert (folder / "mine.py").read_text() == "# edited\n"
    assert new(HEAD, "bought", "--force")[0] == 1
    assert (folder / "mine.py").read_text() == "# edited\n"
    assert new(MIXED, "bought", "--force")[0] == 0
    assert recipes.find("mine").name == "mine"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "give the data by one of --csv, --from-image-folder and --from-text-csv"),
        (("--csv", "a.csv"), "--target must name the column to predict"),
        (("--csv", "a.csv", "--target", "y", "--text", "t"), "--from-text-csv and --text, the column of texts, belong"),
        (("--csv", "a.csv", "--from-image-folder", "b"), "give the data by one of"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    training: Commands, options: tuple[str, ...], sentence: str
) -> None:
    code, output = training("new", "mine", *options)
    assert code == 2
    assert sentence in output


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_not_there_is_told(training: Commands) -> None:
    code, output = training("new", "mine", "--csv", "/nowhere/a.csv", "--target", "y")
    assert (code, output) == (1, "error: /nowhere/a.csv is not there; give a CSV file\n")


@pytest.mark.usefixtures("folder")
def test_parquet_is_read_where_it_can_be(training: Commands, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    code, output = training("new", "mine", "--csv", str(tmp_path / "rows.parquet"), "--target", "y")
    assert code == 1
    assert (
        "to read Parquet, run `pip install -c constraints.txt -e '.[parquet]'`" in output
        or "rows.parquet is no table: " in output
    )


def test_rows_that_the_recipe_does_not_expect_are_told_with_their_number(new: New, tmp_path: Path) -> None:
    assert new(MIXED, "bought")[0] == 0
    recipe = recipes.find("mine")
    for column, value, sentence in (
        ("bought", "maybe", "'bought' is 'maybe' in row 400; it must be one of 2 labels"),
        ("gap", "much", "'gap' is 'much' in row 400; it must be a number"),
    ):
        worse = MIXED.astype({column: object})
        worse.loc[399, column] = value
        worse.to_csv(tmp_path / "mine.csv", index=False)
        with pytest.raises(Exception, match=sentence):
            recipe.load(recipe.preset(None), tmp_path)
    (tmp_path / "mine.csv").unlink()
    with pytest.raises(Exception, match="is not there: put it there, or change the path in the recipe"):
        recipe.load(recipe.preset(None), tmp_path)


@pytest.mark.parametrize(
    ("write", "first"),
    [
        (lambda number: f"{number:.1f} %", "100.0 %"),
        (lambda number: f"${number:,.2f}", "$100.00"),
        (lambda number: f"{number:.2f} €".replace(".", ","), "100,00 €"),
        (lambda number: f"{number:.1f} kg", "100.0 kg"),
        (lambda number: f"{number:.2f}".replace(".", ","), "100,00"),
    ],
)
def test_numbers_that_are_written_as_people_do_are_told_and_not_taken_for_names(
    new: New, write: Callable[[float], str], first: str
) -> None:
    told = f"numbers written as '{first}': write plain numbers, and nothing for no number"
    written = MIXED.assign(price=[write(100 + 7.25 * i) for i in range(len(MIXED))])
    code, output = new(written, "bought")
    assert code == 0
    assert f"left out: {told}\n" in output
    code, output = new(written, "price", "--force")
    assert (code, output) == (1, f"error: the target 'price' has {told}\n")


def test_a_word_among_numbers_is_told(new: New) -> None:
    counts = [str(i % 30) if i % 40 else "unknown" for i in range(len(MIXED))]
    sizes = [f"{i}.5" if i % 40 else "unknown" for i in range(len(MIXED))]
    code, output = new(MIXED.assign(count=counts, size=sizes), "bought")
    assert code == 0
    assert "category: 31 names, numbers but for 10 such as 'unknown'\n" in output
    assert "left out: numbers but for 10 such as 'unknown': write plain numbers, and nothing for no number\n" in output


@pytest.mark.parametrize(
    "write",
    [
        lambda i: f"{i}{'ABCDEF'[i % 6]}",
        lambda i: f"10.0.{i // 99}.{i}",
        lambda i: f"C{i:04}",
        lambda i: f"{i}" if i % 4 else f"A/5 {i}",
    ],
)
def test_names_with_digits_are_no_numbers(new: New, write: Callable[[int], str]) -> None:
    code, output = new(MIXED.assign(seat=[write(i) for i in range(len(MIXED))]), "bought")
    assert code == 0
    assert "  seat   left out: identifies rows\n" in output
