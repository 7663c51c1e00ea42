"""The command ``export``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from handlers.observe.settings import EnvironmentSettings, says
from serving.command_line import CACHE, STORE, Cache, Store, console, fail, option, registry_at, telling
from serving.registry import ArchiveError
from serving.settings import ROOT
from training.improve.commands_figures import GivenData, GivenTarget


class ExportSettings(EnvironmentSettings, frozen=True):
    """The settings of an export."""

    litert_python: Annotated[
        Path | None, says("The Python of the environment that converts to TensorFlow Lite; unset: beside `.venv`.")
    ] = None


def export_command(
    model: Annotated[str, typer.Argument(help="Name of the model whose champion is exported.")],
    requested: Annotated[
        list[str] | None, typer.Option("--format", help="onnx, torch, tflite or openvino; may be repeated; or all.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = ROOT / "exports",
    report: Annotated[Path | None, typer.Option(help="Folder for the figures as JSON, such as docs/practices.")] = None,
    litert: Annotated[Path, option(ExportSettings, "litert_python")] = Path(f"{sys.prefix}-litert/bin/python"),
    data: GivenData = None,
    target: GivenTarget = "",
    store: Store = STORE,
    cache: Cache = CACHE,
) -> None:
    """Write the champion in portable formats, compare its answers, and time each in its own runtime."""
    from training.champion.imported import GivenRows, champion_source
    from training.data import DataError
    from training.improve.formats import exporting
    from training.improve.formats.result import print_export
    from training.improve.practices import document

    every = exporting.formats(litert)
    names = list(every) if not requested or "all" in requested else requested
    try:
        if unknown := [name for name in names if name not in every]:
            raise KeyError(f"there is no format {unknown[0]!r}; there are {', '.join(every)}, all")
        registry = registry_at(store)
        result = exporting.export_champion(
            champion_source("export", model, registry, cache, GivenRows(data, target)),
            registry,
            [every[name] for name in dict.fromkeys(names)],
            output=output,
            step=telling(model),
        )
    except (KeyError, ValueError, DataError, ArchiveError) as error:
        fail(error)
    print_export(result, console)
    if result.rows:
        console.print(f"written: {', '.join(row.file for row in result.rows)} into {output}", markup=False)
    if report:
        console.print(f"written: {document.write_result(result, report)}", markup=False)
    if result.failed:
        raise typer.Exit(1)
