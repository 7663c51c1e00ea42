"""What programs print, alerts say and pages show speaks of commands as a user types them: ``marloop VERB``."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marloop.group import command_of
from marloop.verbs import VERBS
from serving.settings import ROOT

ROOMS = ("marloop", "handlers", "serving", "training", "monitoring", "loadtests", "deploy")
# A submodule has no verb, and may be called so.
AS_MODULES = re.compile(r"python -m (?:training|serving|monitoring|loadtests)\b(?!\.)")
HINT = re.compile(r"`marloop ([a-z-]+)((?: [a-z-]+)?)")
SAYS_SO = ROOT / "docs" / "operations.md"  # that the programs can be called so, too
VERB = {verb.name: verb for row in VERBS.values() for verb in row}


def tracked(*folders: str) -> Iterator[Path]:
    names = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, capture_output=True, check=True).stdout
    yield from (path for name in names.decode().split("\0") if name and (path := ROOT / name).is_file())


def strings(path: Path) -> Iterator[str]:
    """Yield the texts of a module, but its own docstring, which may say how it is started."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first = tree.body[0] if tree.body else None
    own = first.value if isinstance(first, ast.Expr) else None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node is not own:
            yield node.value


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text that somebody may read, with the name of its file."""
    for path in tracked(*ROOMS):
        name = str(path.relative_to(ROOT))
        if path.suffix == ".py":
            yield from ((name, text) for text in strings(path))
        elif path.suffix in (".yml", ".yaml", ".html", ".json", ".js", ".sh", ".service", ".md"):
            yield name, path.read_text()


@pytest.fixture(scope="module")
def printed() -> list[tuple[str, str]]:
    found = list(texts())
    assert len({name for name, _ in found}) > 200
    return found


def test_no_printed_text_speaks_of_python_modules(printed: list[tuple[str, str]]) -> None:
    assert [(name, text) for name, text in printed if AS_MODULES.search(text)] == []


def test_every_verb_of_a_hint_exists(printed: list[tuple[str, str]]) -> None:
    hints = {(name, *match.groups()) for name, text in printed for match in HINT.finditer(text)}
    assert len(hints) > 20
    assert {(name, verb) for name, verb, _ in hints if verb not in VERB} == set()
    groups: dict[str, Any] = {verb: getattr(command_of(VERB[verb]), "commands", {}) for _, verb, _ in hints}
    unknown = {hint for hint in hints if groups[hint[1]] and hint[2].strip() not in groups[hint[1]]}
    assert unknown == set()


def test_docs_speak_so_too() -> None:
    pages = {path for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *tracked("docs")) if path.suffix == ".md"}
    assert len(pages) > 10
    assert [page.name for page in pages - {SAYS_SO} if AS_MODULES.search(page.read_text())] == []
