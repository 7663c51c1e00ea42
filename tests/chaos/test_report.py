"""The campaign's table says what held, what was late and what was not tried."""

import pytest

from tests.chaos.report import Report, Row, markdown

TESTS = """
import pytest

def fault(kind, promise="it holds"):
    return pytest.mark.chaos(kind=kind, fault="a thing", promise=promise)

@fault("sent")
def test_holds(record_property):
    record_property("figures", "3 of 3")

@fault("killed")
@pytest.mark.parametrize("part", ["a", "b"])
def test_late(record_property, part):
    record_property("figures", f"{part} after 7 s")
    if part == "b":
        record_property("late", part)

@fault("filled")
def test_breaks():
    assert False

@fault("hung")
def test_is_not_tried():
    pytest.skip("no such program")

def test_of_something_else():
    pass
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("tests")
    (folder / "test_faults.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = chaos: a fault\n")
    report = Report()
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", str(folder / "pytest.ini")]
    pytest.main([*options, str(folder)], plugins=[report])
    return report.merged()


def test_each_fault_has_a_row_with_the_worst_of_its_outcomes_in_the_order_of_the_kinds(rows: list[Row]) -> None:
    assert [(row.kind, row.outcome) for row in rows] == [
        ("killed", "late"),
        ("hung", "skipped"),
        ("filled", "failed"),
        ("sent", "passed"),
    ]


def test_the_table_has_figures_and_reasons(rows: list[Row]) -> None:
    lines = markdown(rows).splitlines()
    assert "| killed | a thing | it holds | **late** | a after 7 s; b after 7 s |" in lines[2]
    assert "| hung | a thing | it holds | not tried | no such program |" in lines[3]
    assert "| **no** |" in lines[4]
    assert "| yes | 3 of 3 |" in lines[5]
