"""The commands ``evaluate`` and ``tokenizer`` of language models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.command_line import CACHE, STORE, Cache, Json, Store, console, fail, telling
from serving.registry import ArchiveError, Registry
from serving.store.opening import open_at

if TYPE_CHECKING:
    from training.language.evaluation.comparison import Comparison, Trial

GGUF = ".gguf"


def evaluate_command(
    model: Annotated[str, typer.Argument(help="Name of a language model.")],
    version: Annotated[
        str | None, typer.Option(help="A registered version that is compared with the champion; default: the champion.")
    ] = None,
    tasks: Annotated[Path | None, typer.Option(help="lm-eval tasks: a YAML file or a folder of them.")] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Conversations that neither version learned: JSON, one a line.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompts whose answers must stay: JSON, one a line; default: those in the champion's contract."
        ),
    ] = None,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Make the version champion if it is better in something, worse in nothing."),
    ] = False,
    as_json: Json = False,
    store: Store = STORE,
    cache: Cache = CACHE,
) -> None:
    """Run lm-eval tasks on a language model as it is served, beside its float32 network or beside the champion."""
    from training.data import DataError

    try:
        registry = open_at(store)
        champion = registry.champion(model).number
        if version in (None, champion):
            if tasks is None or held_out or promote:
                raise ValueError("--tasks is needed; --held-out and --promote are for another --version")
            _alone(registry, model, champion, tasks, cache, as_json)
        else:
            _beside(registry, model, str(version), _trial(tasks, held_out, prompts, cache), promote, as_json)
    except (KeyError, ValueError, DataError, ArchiveError) as error:
        fail(error)


def tokenizer_command(
    model: Annotated[str, typer.Argument(help="Name of a recipe of a language model, or a GGUF file.")],
    output: Annotated[Path, typer.Option(help="Folder for tokenizer.json and tokenizer_config.json.")],
    cache: Cache = CACHE,
) -> None:
    """Write a language model's tokenizer as a folder of transformers, for clients that count tokens as lm-eval does."""
    from training import recipes
    from training.data import DataError

    try:
        if not model.endswith(GGUF):
            recipes.check_packages(model)
        from training.language.gguf_file import read_gguf
        from training.language.tokenizer import write_tokenizer

        metadata, _ = read_gguf(Path(model) if model.endswith(GGUF) else _weights(model, cache))
        files = write_tokenizer(metadata, output)
    except (KeyError, ValueError, DataError) as error:
        fail(error)
    console.print(f"written: {', '.join(map(str, files))}", markup=False)


def _weights(model: str, cache: Path) -> Path:
    """Return the GGUF file of a recipe."""
    from training import recipes
    from training.data import DataError
    from training.language import weights
    from training.language.recipe import LanguageRecipe

    recipe = recipes.find_any(model)
    if not isinstance(recipe, LanguageRecipe):
        raise DataError(f"{model} is no language model, which a tokenizer is of")
    return weights.fetch(recipe.weights, cache)


def _trial(tasks: Path | None, held_out: Path | None, prompts: Path | None, cache: Path) -> "Trial":
    from training.language.evaluation.comparison import Trial
    from training.language.evaluation.regressions import read_prompts
    from training.language.evaluation.tasks import read_tasks
    from training.language.instructions import read_conversations

    if not (tasks or held_out):
        raise ValueError("nothing tells which version is better: give --tasks, --held-out or both")
    return Trial(
        tasks=read_tasks(tasks, cache) if tasks else None,
        conversations=read_conversations(held_out) if held_out else (),
        prompts=read_prompts(prompts) if prompts else None,
    )


def _alone(registry: Registry, model: str, number: str, tasks: Path, cache: Path, as_json: bool) -> None:
    """Measure the champion beside the network that its weights make, and write its page anew."""
    import msgspec

    from serving import documents
    from training.language.evaluation.champion import evaluate_champion
    from training.language.evaluation.tasks import read_tasks
    from training.report.language import write_language_page

    contract = evaluate_champion(registry, model, number, read_tasks(tasks, cache), cache, telling(model))
    page = write_language_page(contract, registry.store)
    if as_json:
        typer.echo(documents.to_json(msgspec.to_builtins(contract.evaluation.tasks)))
        return
    _print_table(contract.evaluation.tasks)
    console.print(f"{page}: the same beside all else that is known of it", markup=False, soft_wrap=True)


def _beside(registry: Registry, model: str, number: str, trial: "Trial", promote: bool, as_json: bool) -> None:
    """Compare a version with the champion, and promote it where that is asked for and proven."""
    from serving import documents
    from serving.hosts.trial import check_loads
    from training.language.evaluation.comparison import compare_versions
    from training.statistics.pair import Pair

    champion = registry.champion(model).number
    result = compare_versions(registry, model, Pair(champion, number), trial, telling(model))
    promoted = promote and result.promotes
    if promoted:
        check_loads(registry.verify(registry.models()[model][number]))
        registry.promote(model, number, by="training evaluate", why=result.reason)
    if as_json:
        typer.echo(documents.to_json(_document(result, promoted)))
    else:
        if result.results:
            _print_table(result.results)
        state = f"is champion now, in place of {champion}: `marloop up` serves it" if promoted else "stays a challenger"
        verdict = "is better than" if result.promotes else "does not prove better than"
        console.print(
            f"{model} {number} {verdict} {champion}{f', and {state}' if promote else ''}: {result.reason}",
            markup=False,
            soft_wrap=True,
        )
    if promote and not promoted:
        raise typer.Exit(1)


def _print_table(results: Any) -> None:
    from training.figures.text import terminal_table
    from training.language.evaluation.scores import task_table

    console.print(terminal_table("tasks", *task_table(results), left=(0, 1, 2)))


def _document(result: "Comparison", promoted: bool) -> dict[str, Any]:
    """Return a comparison as an object of JSON."""
    import msgspec

    return {
        "better": result.promotes,
        "promoted": promoted,
        "reason": result.reason,
        "tasks": msgspec.to_builtins(result.results),
        "win_rate": result.won._asdict() if result.won else None,
    }
