"""The command ``adapter`` of language models."""

from pathlib import Path
from typing import Annotated

import typer

from serving.command_line import CACHE, STORE, Cache, Store, console, fail, registry_at, telling
from serving.registry import ArchiveError
from training.packaging.commands_train import Promote


def adapter_command(
    model: Annotated[str, typer.Argument(help="Name of a language model.")],
    name: Annotated[str, typer.Argument(help="Name of the adapter: requests ask for `MODEL:NAME`.")],
    source: Annotated[
        Path | None,
        typer.Argument(help="A folder that PEFT wrote, or conversations to learn: JSON, one a line.", exists=True),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Make a version without it.")] = False,
    version: Annotated[
        str | None, typer.Option(help="The registered version that it is made from; default: the champion.")
    ] = None,
    promote: Annotated[
        Promote,
        typer.Option(help="Make it champion: in place of the one it is made from (auto), always or never."),
    ] = Promote.auto,
    store: Store = STORE,
    cache: Cache = CACHE,
) -> None:
    """Put a LoRA adapter beside a language model, as a new version: a folder of PEFT, or conversations to learn."""
    from training.data import DataError

    try:
        if remove == (source is not None):
            raise ValueError("give a folder or a file to add an adapter, or --remove to leave one out")
        from training.language.adapters.beside import add_adapter, remove_adapter

        registry = registry_at(store)
        if source:
            result = add_adapter(registry, model, name, source, cache, promote.value, telling(model), version)
        else:
            result = remove_adapter(registry, model, name, promote.value, version)
    except (KeyError, ValueError, DataError, ArchiveError) as error:
        fail(error)
    version, adapters = result.contract.version, ", ".join(result.contract.lineage.adapters) or "none"
    state = "champion" if result.state == "champion" else f"a {result.state}"
    console.print(
        f"{model} {version} is {state} ({result.why}); its adapters: {adapters}", markup=False, soft_wrap=True
    )
