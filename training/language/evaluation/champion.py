"""Tasks on a registered version as it is served, beside the network in float32 with its published weights."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from handlers.contract import ModelContract
from serving.registry import Registry
from training import recipes
from training.language import weights
from training.language.evaluation.evidence import FLOAT32, SERVED
from training.language.evaluation.opened import OpenedVersion, open_version
from training.language.evaluation.scores import DocumentScores, results_of
from training.language.evaluation.tasks import Tasks, run_tasks
from training.language.evaluation.text_models import NetworkTextModel
from training.language.gguf_file import read_gguf
from training.language.llama import llama
from training.language.recipe import LanguageRecipe
from training.language.tokenizer import LanguageTokenizer


def evaluate_champion(
    registry: Registry,
    name: str,
    number: str,
    tasks: Tasks,
    cache: Path,
    step: Callable[[str], None] = lambda text: None,
) -> ModelContract:
    """Run tasks on a version and, where its recipe knows it, on the network with the published weights.

    Returns:
        Its contract with these results; the archive stays as it is.

    Raises:
        ArchiveError: there is no such version, or its archive is missing, altered or incomplete.
        DataError: a task cannot be run, or the weights cannot be had.
    """
    scores: dict[str, list[DocumentScores]] = {}
    with open_version(registry, name, number) as opened:
        contract = opened.contract
        network = _network(opened, cache)
        if network:
            step("running the tasks on the network in float32, with the published weights")
            scores[FLOAT32] = run_tasks(tasks, network)
        step("running the tasks on the version, as it is served")
        scores[SERVED] = run_tasks(tasks, opened.model)
    results = results_of(scores, tasks.sha256)
    return msgspec.structs.replace(contract, evaluation=msgspec.structs.replace(contract.evaluation, tasks=results))


def _network(opened: OpenedVersion, cache: Path) -> NetworkTextModel | None:
    """Return the network of a version's published weights; None for one without a recipe, or of other weights."""
    source = published_weights(opened.contract, cache)
    if source is None:
        return None
    metadata, published = read_gguf(source)
    return NetworkTextModel(llama(metadata, published), LanguageTokenizer(metadata), metadata, opened.engine.context)


def published_weights(contract: ModelContract, cache: Path) -> Path | None:
    """Return the GGUF file that a version was made from; None for one without a recipe, or of other weights."""
    if contract.lineage.imported:
        return None
    try:
        recipe = recipes.find_any(contract.name)
    except (KeyError, recipes.RecipeError):
        return None
    if not isinstance(recipe, LanguageRecipe) or recipe.weights.sha256 != contract.lineage.data_sha256:
        return None
    return weights.fetch(recipe.weights, cache)
