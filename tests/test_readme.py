"""README and docs: links lead somewhere, commands and names exist, and every block can be read by its program."""

import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from loadtests import __main__ as loadtests
from marloop.group import command_of, group
from marloop.verbs import VERBS
from monitoring import __main__ as monitoring
from serving import __main__ as serving
from serving.settings import ROOT
from tests import readme
from training import __main__ as training

README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
VERB = {verb.name: verb for row in VERBS.values() for verb in row}
COMMANDS: dict[str, Any] = {
    f"python -m {name}": get_command(module.app)
    for name, module in {
        "training": training,
        "serving": serving,
        "monitoring": monitoring,
        "loadtests": loadtests,
    }.items()
}
FOLDERS = "marloop|handlers|serving|training|monitoring|loadtests|tests|deploy|docs"
LONGEST = 25  # words of a sentence
OTHERS = (ROOT / "CHANGELOG.md", ROOT / "model_store" / "README.md")
pages = pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def code(page: Path) -> Iterator[str]:
    """Yield what a page shows as code in a line, and each line of its shell blocks."""
    yield from re.findall(r"`([^`\n]+)`", prose(page))
    for block in readme.blocks(page):
        if block.language == "sh":
            yield from block.text.replace("\\\n", " ").splitlines()


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*readme.PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pages
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name for text in code(page) for name in re.findall(r"(?:^|&& )make ([a-z-]+)", text)} <= targets


@pages
def test_every_command_exists_and_has_the_options_that_are_shown(page: Path) -> None:
    unknown = []
    for text in code(page):
        for name, words in re.findall(rf"({'|'.join(COMMANDS)}|(?:^|(?<=[;&|] ))marloop)((?: [^\s#]+)+)", text):
            arguments = words.split()
            command = named(name, arguments)
            parameters = command.params if command else []
            options = {option for parameter in parameters for option in parameter.opts} | {"--help"}
            if not command or not {word for word in arguments if word.startswith("--")} <= options:
                unknown.append(text)
    assert unknown == []


def named(program: str, arguments: list[str]) -> Any:
    """Return the command that a line calls, None where there is none; takes its name from the arguments."""
    if program == "marloop" and not arguments[0].startswith("-"):
        verb = VERB.get(arguments.pop(0))
        command: Any = command_of(verb) if verb else None
    else:
        command = COMMANDS.get(program) or group()
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        command = command.commands.get(arguments.pop(0))
    return command


@pages
def test_every_file_of_the_repository_that_is_named_exists(page: Path) -> None:
    paths = {path for text in code(page) for path in re.findall(rf"(?:^|[ @])((?:{FOLDERS})/[\w./-]*)", text)}
    made = {path for path in paths if path.startswith(("training/recipes/iris", "training/presets/"))}
    assert {path for path in paths - made if not (ROOT / path).exists()} == set()


@pages
def test_every_setting_that_is_named_is_one_of_the_code(page: Path) -> None:
    names = set(re.findall(r"MARLOOP_[A-Z_]+", page.read_text(encoding="utf-8")))
    assert {name for name in names if not in_code(name)} == set()


def test_every_metric_on_the_page_about_monitoring_is_one_of_the_code() -> None:
    (table,) = re.findall(r"\| metric \|.*?\n(?=\n)", prose(ROOT / "docs" / "monitoring.md"), re.DOTALL)
    names = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    # The library names what it measures of a process by itself, and appends `_total` to a counter.
    own = names - {"process_resident_memory_bytes"}
    assert len(own) > 20
    assert {name for name in own if not in_code(name.removesuffix("_total"))} == set()


def in_code(name: str) -> bool:
    """Tell whether a name stands in a file of the repository other than a page."""
    found = subprocess.run(["git", "grep", "-qF", name, "--", ":!*.md", ":!tests"], cwd=ROOT)
    return found.returncode == 0


@pages
def test_every_block_is_what_it_says_it_is(page: Path) -> None:
    for block in readme.blocks(page):
        if block.language == "json":
            json.loads(block.text)
        elif block.language in ("py", "python"):
            compile(textwrap.dedent(block.text), str(page), "exec")
        elif block.language == "sh":
            subprocess.run(["bash", "-n", "-c", block.text], check=True)


def test_every_answer_that_is_shown_is_one_of_the_service() -> None:
    examples = [*readme.shown(), readme.stream()]
    assert {example.page.name for example in examples} >= {"README.md", "formats.md", "torchserve.md"}
    assert [example.command for example in examples if f" {readme.SERVICE}/predictions/" not in example.command] == []
    answers = sum(block.language == "json" for block in readme.blocks(README))
    assert answers == sum(example.page == README for example in readme.shown()) == 2


def test_the_readme_shows_every_folder_and_fits_on_a_few_screens() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 140
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {name.partition("/")[0] for name in tracked.splitlines() if "/" in name and not name.startswith(".")}
    assert set(re.findall(r"^\| `([a-z_]+)/` \|", text, re.MULTILINE)) == folders


@pages
def test_sentences_are_short(page: Path) -> None:
    written = re.sub(
        r"<!-- (begin|bench|chaos).*?<!-- (end|[\w-]+: until).*?-->", "", prose(page), flags=re.DOTALL
    )  # by a command
    lines = [line for line in written.splitlines() if line and not line.startswith(("#", "!", "More:", "| ---"))]
    cells = [cell for line in lines for cell in (line.split("|") if line.startswith("|") else [line])]
    sentences = [sentence for cell in cells for sentence in re.split(r"(?<=[.:;?])\s", cell)]
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`[^`]*`", r"\1x", sentence) for sentence in sentences]
    assert [sentence for sentence in plain if len(sentence.split()) > LONGEST] == []


def test_the_index_names_every_page() -> None:
    names = {page.name for page in readme.PAGES if page.parent == INDEX.parent and page != INDEX}
    assert names <= set(re.findall(r"\]\(([a-z-]+\.md)\)", INDEX.read_text()))
