import ast
from dataclasses import dataclass

from serving.settings import ROOT
from tests.support.schedule import KINDS, SHARED, in_order, scope


@dataclass(frozen=True)
class Item:
    nodeid: str


def fixtures_asked_for(tree: ast.Module) -> set[str]:
    """Names of arguments of the functions and of ``getfixturevalue``, without fixtures that the file has itself."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    asked = {argument.arg for function in functions for argument in function.args.args if _is_asked(function)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _gets_a_fixture(node)]
    named = {str(part.value) for call in calls for part in ast.walk(call) if isinstance(part, ast.Constant)}
    return (asked | named) - {function.name for function in functions}


def _gets_a_fixture(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "getfixturevalue"


def _is_asked(function: ast.FunctionDef) -> bool:
    return function.name.startswith("test_") or bool(function.decorator_list)


def test_exactly_the_files_that_ask_the_sessions_torchserve_are_handed_out_together() -> None:
    asking = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / "integration").rglob("test_*.py")
        if {"server", "chatting", "either"} & fixtures_asked_for(ast.parse(path.read_text()))
    ]
    assert sorted(asking) == sorted(SHARED)
    assert {scope(f"{name}::test_a[x]") for name in SHARED} == {"torchserve"}
    assert scope("tests/test_house.py::test_a") == "tests/test_house.py"
    assert {scope(f"{KINDS}{name}.py::test_a[x]") for name in ("test_every_kind", "test_pictures")} == {KINDS}


def test_files_that_wait_are_spread_over_those_that_compute_and_short_ones_are_last() -> None:
    files = [
        "tests/handlers/test_a.py",
        "tests/integration/test_lifecycle.py",
        SHARED[0],
        "tests/monitoring/test_b.py",
        SHARED[-1],
        "tests/training/test_c.py",
        "tests/training/test_d.py",
    ]
    items = [Item(f"{file}::{test}") for file in files for test in ("one", "two")]
    ordered = list(dict.fromkeys(item.nodeid.partition("::")[0] for item in in_order(items)))
    assert ordered == [files[2], files[4], files[5], files[6], files[1], files[3], files[0]]
    assert sorted(item.nodeid for item in in_order(items)) == sorted(item.nodeid for item in items)
