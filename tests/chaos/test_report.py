"""The campaign's table says what held, what was late and what was not tried."""

import ast

import pytest

from serving.settings import ROOT
from tests.chaos.faults import FAULTS, KINDS, RAY_FAULTS, Fault
from tests.chaos.report import Report, Row, markdown

TESTS = """
import pytest

def test_holds(record_property):
    record_property("figures", "3 of 3")

@pytest.mark.parametrize("part", ["a", "b"])
def test_late(record_property, part):
    record_property("figures", f"{part} after 7 s")
    if part == "b":
        record_property("late", part)

def test_breaks():
    assert False

def test_is_not_tried():
    pytest.skip("no such program")

def test_of_something_else():
    raise AssertionError("it is no part of the campaign")
"""
NAMES = {"killed": ("late", "holds"), "hung": ("is_not_tried",), "filled": ("breaks", "holds"), "sent": ("holds",)}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("tests") / "tests"
    (folder / "some").mkdir(parents=True)
    (folder / "some" / "test_faults.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    faults = [
        Fault(kind, "a thing", "it holds", tuple(f"some/faults::{name}" for name in names))
        for kind, names in NAMES.items()
    ]
    report = Report(faults)
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", str(folder / "pytest.ini")]
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYTEST_ADDOPTS", raising=False)  # options of whoever runs this test
        pytest.main([*options, str(folder)], plugins=[report])
    return report.rows()


def test_each_fault_has_a_row_with_the_worst_of_its_outcomes(rows: list[Row]) -> None:
    outcomes = {row.fault.kind: row.outcome for row in rows}
    assert outcomes == {"killed": "late", "hung": "skipped", "filled": "failed", "sent": "passed"}


def test_the_table_has_figures_and_reasons(rows: list[Row]) -> None:
    lines = markdown(rows).splitlines()
    assert "| killed | a thing | it holds | **late** | 3 of 3; a after 7 s; b after 7 s |" in lines[2]
    assert "| hung | a thing | it holds | not tried | no such program |" in lines[3]
    assert "| **no** |" in lines[4]
    assert "| sent | a thing | it holds | yes | 3 of 3 |" in lines[5]


def test_every_test_of_the_campaign_is_there() -> None:
    for fault in (*FAULTS, *RAY_FAULTS):
        assert fault.kind in KINDS
        for test in fault.ids:
            file, _, name = test.partition("::")
            functions = ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
            assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, test


@pytest.mark.parametrize("campaign", [FAULTS, RAY_FAULTS])
def test_faults_of_a_kind_stand_together(campaign: tuple[Fault, ...]) -> None:
    assert [fault.kind for fault in campaign] == sorted((fault.kind for fault in campaign), key=KINDS.index)
