"""An adapter that is learned from conversations, beside the published weights of a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from handlers.contract import ModelContract
from handlers.contract.model_card import Conversations, Tuning
from handlers.language.decoders.adapters import Adapter
from training import recipes
from training.data import DataError
from training.language import weights
from training.language.adapters import lora
from training.language.evaluation import perplexity
from training.language.gguf_file import read_gguf
from training.language.instructions import LONGEST, read_instructions
from training.language.llama import Llama, llama
from training.language.recipe import PASSAGE, LanguageHyperparameters, LanguageRecipe
from training.language.tokenizer import LanguageTokenizer


class Learned(NamedTuple):
    """An adapter, and how it was learned.

    Attributes:
        module: the network in float32, into which it is merged.
    """

    adapter: Adapter
    module: Llama
    conversations: Conversations
    tuning: Tuning


def learn(contract: ModelContract, file: Path, cache: Path, step: Callable[[str], None] = lambda text: None) -> Learned:
    """Learn the conversations of a file by changes of the attention; one in ten is held out.

    Args:
        contract: of the version that it is for.
        cache: folder of downloaded weights.

    Raises:
        DataError: the version is not of a recipe's published weights, or the file cannot be read.
    """
    recipe, hp = _recipe(contract)
    step("reading the weights")
    metadata, published = read_gguf(weights.fetch(recipe.weights, cache))
    tokenizer = LanguageTokenizer(metadata)
    talks = read_instructions(file, metadata.template, tokenizer, metadata.end)
    module = llama(metadata, published)
    plain = perplexity.by_reference(module, tokenizer.tokenize(PASSAGE.read_text("utf-8"), False))
    long = f"; {talks.left_out:,} of over {LONGEST} tokens are left out" if talks.left_out else ""
    step(f"learning {len(talks.learned):,} conversations{long}")
    before = lora.perplexity(module, talks.held_out)
    adapter = lora.tune(module, talks.learned, hp, step)
    tuning = Tuning(plain.perplexity, len(talks.held_out), before, lora.perplexity(module, talks.held_out))
    step(f"the perplexity of {tuning.rows} held-out answers was {before:.2f}, and is {tuning.after:.2f}")
    return Learned(adapter, module, Conversations(talks.sha256, len(talks.learned), len(talks.held_out)), tuning)


def _recipe(contract: ModelContract) -> tuple[LanguageRecipe, LanguageHyperparameters]:
    """Return the recipe whose published weights a version has, and the hyperparameters."""
    name, lineage = contract.name, contract.lineage
    try:
        recipe = recipes.find_any(name)
    except KeyError as error:
        raise DataError(f"{name} has no recipe, which learning needs: give a folder that PEFT wrote") from error
    if not isinstance(recipe, LanguageRecipe):
        raise DataError(f"{name} is no language model")
    if lineage.data_sha256 != recipe.weights.sha256 or lineage.instructions:
        why = "was fine-tuned" if lineage.instructions else "has other weights than the recipe"
        raise DataError(f"{name} {contract.version} {why}: what is learned here is for the published weights")
    return recipe, recipe.preset(lineage.preset or None)
