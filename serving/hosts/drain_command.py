"""The command ``drain``, which comes before whatever ends a host: its clients go elsewhere, or are answered."""

import time
from typing import Annotated

import typer

from serving import command_line
from serving.command_line import fail
from serving.hosts.direct import background as direct
from serving.hosts.host import LaunchError
from serving.hosts.torchserve.drain import drain as drain_torchserve


def drain_command(
    seconds: Annotated[
        float, typer.Option(min=0, help="s that clients of the direct host have to go elsewhere; they are answered.")
    ] = 5.0,
) -> None:
    """Have the running host send its clients elsewhere, or TorchServe answer what it has: before whatever ends it."""
    settings = command_line.settings()
    board = direct.board(settings)
    if settings.host == "direct":
        if board.workers():  # also where a busy machine keeps them from saying that they live
            board.drain()
            time.sleep(seconds)
    elif not drain_torchserve(settings):
        fail(LaunchError("not everything was answered in time"))
