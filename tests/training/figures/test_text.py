"""Tables of pages, and the part of a page that a command writes."""

from pathlib import Path

import pytest

from training.figures.text import Marks, put, table

MARKS = Marks("<!-- begin -->", "<!-- end -->", "Figures")


def test_a_table_has_its_head_its_rule_and_cells_whose_bars_are_no_columns() -> None:
    text = table(["model", "rmse"], [["a|b", "1.5"], ["c", ""]], right=(1,))
    assert text == "| model | rmse |\n| --- | ---: |\n| a\\|b | 1.5 |\n| c |  |\n"


def test_a_part_is_put_between_the_marks_and_the_words_around_it_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin -->\nold\n<!-- end -->\nafter\n")
    put("new\n", page, MARKS)
    assert page.read_text() == "before\n<!-- begin -->\nnew\n<!-- end -->\nafter\n"


def test_a_page_with_a_title_is_made_and_gets_its_marks(tmp_path: Path) -> None:
    put("new\n", tmp_path / "docs" / "page.md", MARKS)
    assert (tmp_path / "docs" / "page.md").read_text() == "# Figures\n\n<!-- begin -->\nnew\n<!-- end -->\n"


@pytest.mark.parametrize(
    ("text", "marks"),
    [("words\n", MARKS._replace(title="")), ("<!-- end -->\n<!-- begin -->\n", MARKS), ("<!-- begin -->\n", MARKS)],
)
def test_a_page_that_lost_a_mark_is_refused_and_left_as_it_is(tmp_path: Path, text: str, marks: Marks) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(
        ValueError, match="page.md has lost its marks: it needs '<!-- begin -->' and then '<!-- end -->'"
    ):
        put("new\n", page, marks)
    assert page.read_text() == text
