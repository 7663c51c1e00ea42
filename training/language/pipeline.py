"""The pipeline of a language model: weights -> self-checks -> quantize -> engine -> evaluate -> contract -> archive."""

import importlib.metadata
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from handlers.contract.model_card import Conversations, Evaluation, Lineage, Tuning
from handlers.entry_points.chat import MODEL, ChatService
from handlers.language.template import ChatTemplate
from serving.registry import Registry, file_sha256
from serving.settings import ROOT, Folders
from training import recipes
from training.language import checks, engines, lora, perplexity, weights
from training.language.gguf_file import Metadata, read_gguf, write_gguf
from training.language.instructions import Instructions, read_instructions
from training.language.llama import Llama, export_weights, llama
from training.language.packing import contract_of, handler_settings, packing, with_example
from training.language.recipe import PASSAGE, Engine, LanguageHyperparameters, LanguageRecipe
from training.language.speed import speed
from training.language.tokenizer import LanguageTokenizer
from training.packaging.lineage import commit, source
from training.packaging.registration import DEFAULTS, Result, TrainOptions, register


def train(
    recipe: LanguageRecipe,
    registry: Registry,
    folders: Folders,
    options: TrainOptions = DEFAULTS,
    step: Callable[[str], None] = lambda text: None,
) -> Result:
    """Check, quantize, evaluate, package and register one version of a language model.

    Raises:
        KeyError: no such preset.
        DataError: the weights cannot be had, no engine is installed, the instructions cannot be read, or a self-check
            fails; nothing is registered.
    """
    hp, name = recipe.preset(options.preset), options.preset or next(iter(recipe.presets))
    engine = engines.choose(hp.engine)  # before the work, should there be none
    step("reading the weights")
    source = weights.fetch(recipe.weights, folders.cache)
    metadata, published = read_gguf(source)
    serving = replace(recipe.serving, context=min(recipe.serving.context, metadata.context))
    tokenizer = LanguageTokenizer(metadata)
    step("checking tokenizer, template and weights")
    checks.check_tokenizer(tokenizer)
    checks.check_template(metadata.template, tokenizer, recipe.expected)
    reference = llama(metadata, published)
    checks.check_reference(reference, tokenizer, metadata.end, recipe.expected)
    passage = tokenizer.tokenize(PASSAGE.read_text("utf-8"), False)
    plain = perplexity.by_reference(reference, passage)
    checks.check_perplexity("the weights in float32", plain.perplexity, recipe.expected.perplexity)
    tuned: Tuning | None = None
    conversations: Conversations | None = None
    if options.instructions:
        talks = read_instructions(options.instructions, metadata.template, tokenizer, metadata.end)
        conversations = Conversations(talks.sha256, len(talks.learned), len(talks.held_out))
        tuned = _tune(reference, talks, hp, plain.perplexity, step)
        plain = perplexity.by_reference(reference, passage)
        published = export_weights(reference, metadata)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        step(f"quantizing to {hp.quantization}, for {engine}")
        write_gguf(source, metadata, published, folder / MODEL, hp.quantization)
        with engines.usable(engine):
            engines.prepare(engine, folder)
        step(f"evaluating on {len(passage) - 1:,} tokens of a plain text, as {engine} computes it")
        with engines.usable(engine):
            decoder = engines.decoder(engine, folder, len(passage))
            served = perplexity.by_engine(decoder, passage)
            decoder.close()
        checks.check_perplexity(f"{engine} with {hp.quantization}", served.perplexity, recipe.expected.perplexity)
        step("asking it, alone and in all its slots at once")
        _, opened = ChatService().load_engine(folder, handler_settings(engine, serving))
        template = ChatTemplate(metadata.template, opened.tokenize)
        checks.check_engine(opened, tokenizer)
        if not tuned:
            checks.check_answer(opened, tokenizer, template, recipe.expected)
        evaluation = Evaluation(
            primary="perplexity",
            rows=len(passage) - 1,
            metrics={"perplexity": served.perplexity},
            baselines={"float32": {"perplexity": plain.perplexity}},
            speed=speed(opened, passage, engine),
            instructions=tuned,
        )
        lineage = msgspec.structs.replace(
            _lineage(recipe, name, hp, metadata, engine),
            instructions=conversations,
            parity=perplexity.compare(served, plain),
            graph_sha256={path.name: file_sha256(path) for path in engines.files(engine, folder)},
        )
        prompt, continuation = next(iter(recipe.expected.continuations.items()))
        asked = {"prompt": prompt, "max_tokens": len(opened.tokenize(continuation, False)), "temperature": 0}
        draft = with_example(contract_of(recipe.name, evaluation, lineage), opened, template, asked)
        opened.close()
        pack = packing(engine, folder, metadata.template, recipe.description, serving)
    return register(draft, pack, registry, options.promote)


def _tune(
    module: Llama, talks: Instructions, hp: LanguageHyperparameters, passage: float, step: Callable[[str], None]
) -> Tuning:
    """Fit the network to conversations, and return the perplexity of the held-out answers before and after.

    Args:
        passage: perplexity of the plain passage before.
    """
    step(f"fine-tuning on {len(talks.learned):,} conversations")
    before = lora.perplexity(module, talks.held_out)
    lora.tune(module, talks.learned, hp, step)
    return Tuning(passage, len(talks.held_out), before, lora.perplexity(module, talks.held_out))


def _lineage(
    recipe: LanguageRecipe, preset: str, hp: LanguageHyperparameters, metadata: Metadata, engine: Engine
) -> Lineage:
    packages = ("gguf", "tokenizers", engines.PACKAGES[engine])
    return Lineage(
        git_commit=commit(ROOT),
        recipe=source(file, ROOT) if (file := recipes.file_of(recipe.name)) else None,
        data_sha256=recipe.weights.sha256,
        weights=f"{recipe.weights.requirement}: {recipe.weights.member}",
        license=metadata.license,
        preset=preset,
        hyperparameters=asdict(hp),
        packages={name: importlib.metadata.version(name) for name in packages},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
