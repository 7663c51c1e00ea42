"""The house as docs and README describe it: imports run one way, and no folder holds more than one looks through."""

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

from serving.settings import ROOT

BELOW: Mapping[str, frozenset[str]] = {
    "handlers": frozenset(),
    "serving": frozenset({"handlers"}),
    "training": frozenset({"handlers", "serving"}),
    "monitoring": frozenset({"handlers", "serving", "training"}),
    "loadtests": frozenset({"handlers", "serving", "training"}),
    "marloop": frozenset({"serving"}),  # what a verb is of, it imports by name
}
# What one finds in an archive depends on its model: what every archive holds imports nothing that only some hold.
APART: Mapping[str, frozenset[str]] = {
    "core": frozenset({"http", "observe"}),
    "http": frozenset({"core"}),
    "observe": frozenset({"core", "http"}),
    "formats": frozenset({"core", "http", "observe"}),
    "language": frozenset({"core", "http", "observe"}),
    "entry_points": frozenset({"core", "http", "observe", "formats", "language"}),
}
# How processes are started, found and ended: here, and by an archive, which has nothing of serving, for code apart.
PROCESS_MODULES = ("serving.processes", "handlers.engine.child")
PROCESSES = frozenset(
    f"{module}.{name}"
    for module, names in {
        "subprocess": ("Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"),
        "os": ("system", "popen", "fork", "kill", "killpg", "posix_spawn", "posix_spawnp", "spawnv", "spawnve"),
        "psutil": ("process_iter", "pids", "wait_procs", "Popen"),
    }.items()
    for name in names
)
MOST = 15  # entries of a folder beside `__init__.py`
MORE = {"docs": 20}  # README.md is its index
PROGRAMS = (
    "loadtests/bench/peers/",
    "loadtests/bench/language/peers/",
    "tests/clients/",
)  # in environments of their own


def tracked() -> list[str]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [name for name in names.decode().split("\0") if name and (ROOT / name).exists()]


def name_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture(scope="module")
def sources() -> dict[str, ast.Module]:
    """Every module of the rooms, by its dotted name."""
    paths = [path for path in tracked() if path.endswith(".py") and path.partition("/")[0] in BELOW]
    return {name_of(path): ast.parse((ROOT / path).read_text()) for path in paths if not path.startswith(PROGRAMS)}


def imports(tree: ast.Module, modules: Mapping[str, ast.Module]) -> Iterator[str]:
    """The modules of this repository that one imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in BELOW:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def test_a_room_imports_only_rooms_below_it(sources: dict[str, ast.Module]) -> None:
    against = [
        f"{module} imports {target}"
        for module, tree in sources.items()
        for target in imports(tree, sources)
        if (room := module.partition(".")[0]) != (other := target.partition(".")[0]) and other not in BELOW[room]
    ]
    assert against == []


def test_what_every_archive_holds_imports_neither_tensors_formats_nor_language(sources: dict[str, ast.Module]) -> None:
    against = [
        f"{module} imports {target}"
        for module, tree in sources.items()
        if module.startswith("handlers.")
        for target in imports(tree, sources)
        if (part := part_of(module)) != (other := part_of(target)) and other not in APART[part]
    ]
    assert against == []


def part_of(module: str) -> str:
    """The folder of the handlers that a module lies in; the core lies in none."""
    folder = f"{module}.".split(".")[1]
    return folder if folder in APART else "core"


def test_no_module_imports_itself_by_way_of_others(sources: dict[str, ast.Module]) -> None:
    graph = {module: set(imports(tree, sources)) - {module} for module, tree in sources.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_processes_are_started_found_and_ended_where_one_looks_for_it(sources: dict[str, ast.Module]) -> None:
    """A command that is waited for is ``subprocess.run``'s; what goes on beside us is of these modules."""
    elsewhere = [
        f"{module} calls {ast.unparse(node)}"
        for module, tree in sources.items()
        if module not in PROCESS_MODULES
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in PROCESSES
    ]
    assert elsewhere == []


def test_no_folder_has_more_entries_than_one_looks_through() -> None:
    entries = {str(folder / name) for path in tracked() for folder, name in steps(PurePosixPath(path))}
    counts = Counter(
        str(PurePosixPath(entry).parent) for entry in entries if not entry.endswith(("__init__.py", "docs/README.md"))
    )
    counts.pop(".")  # what the owner asked to find there
    assert {folder: count for folder, count in counts.items() if count > MORE.get(folder, MOST)} == {}


def steps(path: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    """Each folder on a path, with the entry of it that the path goes through."""
    for inner in (path, *path.parents):
        if inner != inner.parent:
            yield inner.parent, inner.name


@pytest.mark.parametrize("room", sorted(BELOW))
def test_tests_mirror_the_room(room: str) -> None:
    """A folder of tests is named as the folder whose modules it tests."""
    folders = {str(Path(path).parent) for path in tracked() if path.startswith(f"tests/{room}/")}
    assert {folder for folder in folders if not (ROOT / folder.removeprefix("tests/")).is_dir()} == set()
