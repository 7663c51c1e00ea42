"""The group of verbs, each of which imports its program when it is called."""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from marloop.verbs import STACK, VERBS, Verb


class LazyCommand(TyperCommand):
    """A verb in the group: it has a name and a sentence, and hands its arguments to the command of its program.

    Args:
        section: title above it in the help.
    """

    def __init__(self, verb: Verb, section: str) -> None:
        super().__init__(verb.name, help=verb.sentence, rich_help_panel=section)
        self._verb = verb

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the program's own command, which is what is called then."""
        from serving import command_line

        command_line.start(self._verb.program)
        return command_of(self._verb).make_context(info_name, args, parent, **extra)


def group() -> Any:
    """Return the group of all verbs."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Serve models, measure their answers, retrain those that go stale. Each verb has --help.",
    )
    app.callback()(lambda: None)
    verbs: Any = get_command(app)
    for section, row in VERBS.items():
        for verb in row:
            verbs.add_command(LazyCommand(verb, section))
    return verbs


def command_of(verb: Verb) -> Any:
    """Return the command that a verb is; imports its program."""
    module = importlib.import_module(verb.program if verb.program == STACK else f"{verb.program}.__main__")
    program: Any = get_command(module.app)
    return program if verb.command == "" else program.commands[verb.command or verb.name]
