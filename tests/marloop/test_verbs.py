"""The table of verbs beside the commands: nothing is missing, and each sentence is the command's own."""

import importlib
import re
from typing import Any

import pytest
from typer.main import get_command

from marloop.group import command_of
from marloop.verbs import BENCH, LOADTESTS, MONITORING, SERVING, TRAINING, VERBS, Verb
from serving.settings import ROOT

OPERATIONS = ROOT / "docs" / "operations.md"
ALL = [verb for row in VERBS.values() for verb in row]
each = pytest.mark.parametrize("verb", ALL, ids=lambda verb: verb.name)


def commands(program: str) -> dict[str, Any]:
    group: Any = get_command(importlib.import_module(f"{program}.__main__").app)
    return dict(group.commands)


def test_no_verb_stands_twice() -> None:
    names = [verb.name for verb in ALL]
    assert sorted(set(names)) == sorted(names)


@each
def test_a_verb_is_a_command_with_the_sentence_of_the_table(verb: Verb) -> None:
    assert command_of(verb).help.splitlines()[0].strip() == verb.sentence


@pytest.mark.parametrize("program", [TRAINING, LOADTESTS])
def test_every_command_is_a_verb(program: str) -> None:
    assert {verb.command or verb.name for verb in ALL if verb.program == program} == set(commands(program))


@pytest.mark.parametrize("program", [SERVING, MONITORING, BENCH])
def test_a_program_with_parts_of_its_own_is_a_verb_with_all_its_commands(program: str) -> None:
    (verb,) = (verb for verb in ALL if verb.program == program and verb.command == "")
    assert set(command_of(verb).commands) == set(commands(program))


def test_what_a_script_reads_is_json_by_one_option_and_the_page_names_it() -> None:
    have = {
        " ".join(filter(None, (verb.name, name)))
        for verb in ALL
        for name, command in {"": command_of(verb), **getattr(command_of(verb), "commands", {})}.items()
        if verb.command != "" and any("--json" in option.opts for option in command.params)
    }
    assert {"status", "list", "recipes", "keys list", "drift-report"} <= have
    (line,) = (line for line in OPERATIONS.read_text().splitlines() if "**Scripts.**" in line)
    assert set(re.findall(r"`([a-z][a-z -]+)`", line.partition("stderr: ")[2].partition(".")[0])) == have
