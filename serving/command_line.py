"""What every command of this repository begins with."""

import os
import sys

import typer

from serving import env_file
from serving.settings import ROOT


def run(app: typer.Typer, name: str, private: bool = False) -> None:
    """Run a command line with the settings of the checkout's ``.env``; the environment wins.

    Args:
        app: of the commands.
        name: how they are called, such as ``python -m serving``.
        private: whether what they and all that they start write, logs and databases, is for its owner alone.
    """
    try:
        env_file.load(os.environ, ROOT)
    except env_file.EnvFileError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    if private:
        os.umask(0o077)
    app(prog_name=name)
