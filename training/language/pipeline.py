"""The pipeline of a language model: weights -> self-checks -> quantize -> engine -> evaluate -> contract -> archive."""

import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from handlers.contract import Array
from handlers.contract.model_card import Conversations, Evaluation, Lineage, Tuning
from handlers.entry_points.chat import MODEL, ChatService
from handlers.language.template import ChatTemplate
from serving.registry import Registry, file_sha256
from serving.settings import ROOT, Folders
from training import recipes
from training.language import checks, engines, weights
from training.language.adapters import lora
from training.language.evaluation import perplexity
from training.language.evaluation.evidence import FLOAT32, TUNED, Evidence
from training.language.evaluation.perplexity import TextPrediction
from training.language.evaluation.regressions import read_prompts
from training.language.evaluation.speed import speed
from training.language.evaluation.tasks import read_tasks
from training.language.evaluation.text_models import NetworkTextModel
from training.language.gguf_file import Metadata, read_gguf, write_gguf
from training.language.instructions import LONGEST, Instructions, read_instructions
from training.language.llama import Llama, export_weights, llama
from training.language.packing import contract_of, handler_settings, packing, with_example
from training.language.recipe import PASSAGE, Engine, LanguageHyperparameters, LanguageRecipe
from training.language.tokenizer import LanguageTokenizer
from training.packaging.lineage import commit, source
from training.packaging.registration import DEFAULTS, Result, TrainOptions, register
from training.report.language import write_language_page


@dataclass(frozen=True)
class _Origin:
    """The weights that a version is made of: published ones, or after fine-tuning the changed ones.

    Attributes:
        source: the published file.
        module: the network in float32.
        passage: tokens of the plain text.
        plain: the network's predictions of the passage.
    """

    source: Path
    metadata: Metadata
    weights: Mapping[str, Array]
    tokenizer: LanguageTokenizer
    module: Llama
    passage: list[int]
    plain: TextPrediction


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
        DataError: the weights cannot be had, no engine is installed, a file of instructions, tasks or prompts cannot be
            read, or a self-check fails; nothing is registered.
    """
    hp, name = recipe.preset(options.preset), options.preset or next(iter(recipe.presets))
    engine = engines.choose(hp.engine)  # before the work, should there be none
    evidence = _evidence(options, folders, step)
    origin = _published(recipe, folders.cache, step)
    serving = replace(recipe.serving, context=min(recipe.serving.context, origin.metadata.context))
    network = NetworkTextModel(origin.module, origin.tokenizer, origin.metadata, serving.context)
    evidence.run(FLOAT32, lambda: network)
    tuned: Tuning | None = None
    conversations: Conversations | None = None
    if options.instructions:
        talks = read_instructions(options.instructions, origin.metadata.template, origin.tokenizer, origin.metadata.end)
        conversations = Conversations(talks.sha256, len(talks.learned), len(talks.held_out))
        origin, tuned = _tune(origin, talks, hp, step)
        evidence.run(TUNED, lambda: network)  # whose module was changed in place
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        served = _prepare(origin, recipe, hp, engine, folder, step)
        step("asking it, alone and in all its slots at once")
        _, opened = ChatService().load_engine(folder, handler_settings(engine, serving))
        template = ChatTemplate(origin.metadata.template, opened.tokenize)
        checks.check_engine(opened, origin.tokenizer)
        if not tuned:
            checks.check_answer(opened, origin.tokenizer, template, recipe.expected)
        objections = evidence.ask(registry, contract_of(recipe.name, Evaluation(), Lineage()), opened, template)
        evaluation = Evaluation(
            primary="perplexity",
            rows=len(origin.passage) - 1,
            metrics={"perplexity": served.perplexity},
            baselines={"float32": {"perplexity": origin.plain.perplexity}},
            speed=speed(opened, origin.passage, engine),
            instructions=tuned,
            tasks=evidence.results,
            prompts=evidence.prompts,
        )
        lineage = msgspec.structs.replace(
            _lineage(recipe, name, hp, origin.metadata, engine),
            instructions=conversations,
            parity=perplexity.compare(served, origin.plain),
            graph_sha256={path.name: file_sha256(path) for path in engines.files(engine, folder)},
        )
        prompt, continuation = next(iter(recipe.expected.continuations.items()))
        asked = {"prompt": prompt, "max_tokens": len(opened.tokenize(continuation, False)), "temperature": 0}
        draft = with_example(contract_of(recipe.name, evaluation, lineage), opened, template, asked)
        opened.close()
        pack = packing(engine, folder, origin.metadata.template, recipe.description, serving)
    result = register(draft, pack, registry, options.promote, objections=objections)
    return replace(result, report=write_language_page(result.contract, registry.store))


def _evidence(options: TrainOptions, folders: Folders, step: Callable[[str], None]) -> Evidence:
    """Read the files of tasks and of prompts, before the work."""
    tasks = read_tasks(options.tasks, folders.cache) if options.tasks else None
    return Evidence(tasks, read_prompts(options.prompts) if options.prompts else None, step)


def _published(recipe: LanguageRecipe, cache: Path, step: Callable[[str], None]) -> _Origin:
    """Read the published weights, and check that they, tokenizer and template are read as they are meant."""
    step("reading the weights")
    source = weights.fetch(recipe.weights, cache)
    metadata, published = read_gguf(source)
    tokenizer = LanguageTokenizer(metadata)
    step("checking tokenizer, template and weights")
    checks.check_tokenizer(tokenizer)
    checks.check_template(metadata.template, tokenizer, recipe.expected)
    module = llama(metadata, published)
    checks.check_reference(module, tokenizer, metadata.end, recipe.expected)
    passage = tokenizer.tokenize(PASSAGE.read_text("utf-8"), False)
    plain = perplexity.by_reference(module, passage)
    checks.check_perplexity("the weights in float32", plain.perplexity, recipe.expected.perplexity)
    return _Origin(source, metadata, published, tokenizer, module, passage, plain)


def _prepare(
    origin: _Origin,
    recipe: LanguageRecipe,
    hp: LanguageHyperparameters,
    engine: Engine,
    folder: Path,
    step: Callable[[str], None],
) -> TextPrediction:
    """Write what the engine reads into a folder, and return its predictions of the passage."""
    step(f"quantizing to {hp.quantization}, for {engine}")
    write_gguf(origin.source, origin.metadata, origin.weights, folder / MODEL, hp.quantization)
    with engines.usable(engine):
        engines.prepare(engine, folder)
    step(f"evaluating on {len(origin.passage) - 1:,} tokens of a plain text, as {engine} computes it")
    with engines.usable(engine):
        decoder = engines.decoder(engine, folder, len(origin.passage))
        served = perplexity.by_engine(decoder, origin.passage)
        decoder.close()
    checks.check_perplexity(f"{engine} with {hp.quantization}", served.perplexity, recipe.expected.perplexity)
    return served


def _tune(
    origin: _Origin, talks: Instructions, hp: LanguageHyperparameters, step: Callable[[str], None]
) -> tuple[_Origin, Tuning]:
    """Fit the network to conversations in place; return it, and the perplexity of held-out answers before and after."""
    long = f"; {talks.left_out:,} of over {LONGEST} tokens are left out" if talks.left_out else ""
    step(f"fine-tuning on {len(talks.learned):,} conversations{long}")
    module = origin.module
    before = lora.perplexity(module, talks.held_out)
    lora.tune(module, talks.learned, hp, step)
    tuning = Tuning(origin.plain.perplexity, len(talks.held_out), before, lora.perplexity(module, talks.held_out))
    plain = perplexity.by_reference(module, origin.passage)
    return replace(origin, weights=export_weights(module, origin.metadata), plain=plain), tuning


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
