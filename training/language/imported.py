"""A language model that comes as a GGUF file: any that the engine reads, served with the file's own numbers."""

import importlib.metadata
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract.model_card import Evaluation, Imported, Lineage
from handlers.entry_points.chat import MODEL, ChatService
from handlers.language.api.defaults import FILE as GENERATION
from handlers.language.api.defaults import Defaults, read_defaults
from handlers.language.decoders.decoder import Decoder
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from serving.registry import Registry, file_sha256
from training.data import DataError
from training.language import engines
from training.language.checks import ROUND_TRIPS
from training.language.evaluation import perplexity
from training.language.evaluation.perplexity import TextPrediction
from training.language.evaluation.speed import speed
from training.language.gguf_file import Header, read_gguf, read_header, requantize
from training.language.llama import llama, parameter_names
from training.language.packing import contract_of, handler_settings, packing, with_example
from training.language.recipe import PASSAGE, Engine, LanguageServing
from training.packaging.registration import Promote, Result, register
from training.report.language import write_language_page

REQUEST = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
MOST_PARAMETERS = 500_000_000  # that are computed in float32 beside the engine, 2 GB
REWRITTEN = "rewritten.gguf"
ROUNDING = 0.05  # relative difference of the perplexity that an engine's arithmetic may make


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """What is given beside the file.

    Attributes:
        example: a native request, whose answer is the one that probes expect; it should be greedy.
    """

    name: str
    example: Path | None = None
    promote: Promote = "auto"


def bring_language(
    file: Path, registry: Registry, options: LanguageOptions, step: Callable[[str], None] = lambda text: None
) -> Result:
    """Check, evaluate, package and register a file as a new version.

    Raises:
        DataError: no engine is installed, or the file is not what the engine can serve; nothing is registered.
    """
    engine = engines.choose(None)
    header = read_header(file)
    request, defaults = _request(options.example), _defaults(file, header)
    serving = LanguageServing()
    serving = replace(serving, context=min(serving.context, header.context))
    step(f"reading {header.architecture}, {header.parameters:,} parameters, for {engine}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / MODEL).symlink_to(file.resolve())
        exact = engines.EXACT[engine]
        if exact and (kinds := requantize(file, folder / REWRITTEN, exact)):
            step(f"its {', '.join(kinds)} become Q8_0, as {engine} would round them more coarsely or not read them")
            (folder / REWRITTEN).replace(folder / MODEL)
        with engines.usable(engine):
            engines.prepare(engine, folder)
            _, opened = ChatService().load_engine(folder, handler_settings(engine, serving))
        template = _template(header, opened)
        passage = opened.tokenize(PASSAGE.read_text("utf-8"), False)[: serving.context]
        step(f"evaluating on {len(passage) - 1:,} tokens of a plain text")
        with engines.usable(engine):
            decoder = engines.decoder(engine, folder, len(passage))
            check_tokenizer(decoder)
            served = perplexity.by_engine(decoder, passage)
            decoder.close()
        own = _reference(file, header, passage)
        check_perplexity(served, own, engine)
        step("asking it, alone and in all its slots at once")
        evaluation = Evaluation(
            primary="perplexity",
            rows=len(passage) - 1,
            metrics={"perplexity": served.perplexity},
            baselines={"float32": {"perplexity": own.perplexity}} if own else None,
            speed=speed(opened, passage, engine),
        )
        lineage = _lineage(file, header, engine)
        if own:
            lineage = msgspec.structs.replace(lineage, parity=perplexity.compare(served, own))
        sums = {path.name: file_sha256(path) for path in engines.files(engine, folder)}
        draft = contract_of(options.name, evaluation, msgspec.structs.replace(lineage, graph_sha256=sums))
        try:
            draft = with_example(draft, opened, template, request)
        except RuntimeError as error:
            raise DataError(f"{error}; give another request: --example") from error
        opened.close()
        pack = packing(engine, folder, header.template, f"imported from {file.name}", serving, defaults)
    return _registered(draft, pack, registry, options)


def _registered(draft: Any, pack: Callable[[Any], bytes], registry: Registry, options: LanguageOptions) -> Result:
    """Register a version; perplexities of other vocabularies cannot be compared, so that none replaces a champion."""
    is_first = not registry.models().get(options.name)
    by_itself = options.promote == "auto" and not is_first
    result = register(draft, pack, registry, "never" if by_itself else options.promote)
    result = replace(result, report=write_language_page(result.contract, registry.store))
    if not by_itself:
        return result
    number = result.contract.version
    why = "perplexities of two files cannot be compared, so that nothing tells whether it is better"
    compares = f"`marloop evaluate {options.name} --version {number} --held-out FILE` compares them"
    return replace(result, why=f"{why}: {compares}, `marloop promote {options.name} {number}` does not")


def check_tokenizer(decoder: Decoder) -> None:
    """Check that each text comes back from the engine's tokens as it was.

    Raises:
        DataError: a text does not.
    """
    for text in ROUND_TRIPS:
        back = b"".join(decoder.piece(token) for token in decoder.tokenize(text, False))
        if back.removeprefix(b" ") != text.encode().removeprefix(b" "):
            raise DataError(
                f"the engine's tokenizer turns {text!r} into {back.decode('utf-8', 'replace')!r}: its vocabulary is of "
                "a kind that the engine does not read rightly, and nothing is registered"
            )


def check_perplexity(served: TextPrediction, own: TextPrediction | None, engine: Engine) -> None:
    """Check that the engine computes the file's network.

    Args:
        own: by the file's numbers in float32; None where they cannot be computed here.

    Raises:
        DataError: the answers are no numbers, or others than the file's.
    """
    if not math.isfinite(served.perplexity):
        raise DataError(f"{engine} computes no finite probabilities from this file; nothing is registered")
    if own and abs(served.perplexity / own.perplexity - 1) > ROUNDING:
        raise DataError(
            f"the perplexity of a plain text is {served.perplexity:.1f} by {engine}, and {own.perplexity:.1f} by the "
            "file's own numbers in float32: the engine reads it wrongly, and nothing is registered"
        )


def _reference(file: Path, header: Header, passage: list[int]) -> TextPrediction | None:
    """Predict the text in float32; None where the network is not exactly the one of ``Llama``, or too large."""
    if header.architecture != "llama" or header.parameters > MOST_PARAMETERS:
        return None
    try:
        metadata, weights = read_gguf(file)
        if set(parameter_names(metadata).values()) != weights.keys():
            return None  # an output of its own, or scaled rotary embeddings
        return perplexity.by_reference(llama(metadata, weights), passage)
    except (DataError, RuntimeError):  # a key that is absent, or heads of another size
        return None


def _template(header: Header, engine: ContinuousBatching) -> ChatTemplate:
    try:
        template = ChatTemplate(header.template, engine.tokenize)
        template.tokens([{"role": "user", "content": "Who are you?"}])
    except Exception as error:  # a template is a program, which may raise anything
        raise DataError(f"its chat template cannot write a conversation: {error}") from error
    return template


def _request(path: Path | None) -> dict[str, Any]:
    if path is None:
        return dict(REQUEST)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} is no request in JSON: {error}") from error


def _defaults(file: Path, header: Header) -> Defaults:
    """Return the defaults that a model's makers publish: in a file beside it, or else in its header.

    Raises:
        DataError: one of them is out of its range.
    """
    beside = file.parent / GENERATION
    try:
        return read_defaults(beside) if beside.exists() else msgspec.convert(header.sampling, Defaults)
    except (OSError, ValueError) as error:
        raise DataError(f"the defaults that {file.name} comes with cannot be taken: {error}") from error


def _lineage(file: Path, header: Header, engine: Engine) -> Lineage:
    packages = ("gguf", engines.PACKAGES[engine])
    return Lineage(
        imported=Imported(file.name, file_sha256(file), f"GGUF, {header.architecture}", 0),
        license=header.license,
        packages={name: importlib.metadata.version(name) for name in packages},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
