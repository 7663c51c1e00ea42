"""Embeddings of texts: a folder of sentence-transformers, or an encoder whose pooling is named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from handlers.contract import Array
from training.bring.files.huggingface import texts
from training.bring.files.huggingface.folder import Folder, open_folder
from training.bring.graph import BringError, Brought, Port, first_line, port_of
from training.packaging.export import quiet

MODULES = "modules.json"
OUTPUT = "embedding"
LEAST = 1e-12  # length below which a vector is not divided by it
_MASKED = -1e9

# Of the tokens' vectors (n, length, width) and a mask of the tokens (n, length, 1).
_POOLED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda vectors, mask: vectors[:, 0],
    "mean": lambda vectors, mask: (vectors * mask).sum(1) / mask.sum(1),
    "max": lambda vectors, mask: torch.where(mask > 0, vectors, _MASKED).amax(1),
    "mean_sqrt_len": lambda vectors, mask: (vectors * mask).sum(1) / mask.sum(1).sqrt(),
}
# The same of one text alone, (length, width), by NumPy.
_OWN: Mapping[str, Callable[[Array], Array]] = {
    "cls": lambda vectors: vectors[0],
    "mean": lambda vectors: vectors.mean(0),
    "max": lambda vectors: vectors.max(0),
    "mean_sqrt_len": lambda vectors: vectors.sum(0) / np.sqrt(len(vectors)),
}


class Module(msgspec.Struct, frozen=True):
    """An entry of ``modules.json``."""

    path: str
    type: str


class PoolingConfig(msgspec.Struct, frozen=True):
    """The file ``1_Pooling/config.json``, in its older form a flag a mode, in its newer the modes' names."""

    pooling_mode: str | tuple[str, ...] = ()
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False

    def modes(self) -> tuple[str, ...]:
        """Return the modes' names, in the order of their parts of the vector."""
        if self.pooling_mode:
            return (self.pooling_mode,) if isinstance(self.pooling_mode, str) else self.pooling_mode
        flags = {
            "cls": self.pooling_mode_cls_token,
            "max": self.pooling_mode_max_tokens,
            "mean": self.pooling_mode_mean_tokens,
            "mean_sqrt_len": self.pooling_mode_mean_sqrt_len_tokens,
            "weightedmean": self.pooling_mode_weightedmean_tokens,
            "lasttoken": self.pooling_mode_lasttoken,
        }
        return tuple(name for name, is_on in flags.items() if is_on)


class TransformerConfig(msgspec.Struct, frozen=True):
    """The file ``sentence_bert_config.json``."""

    max_seq_length: int | None = None
    do_lower_case: bool = False


class PromptsConfig(msgspec.Struct, frozen=True):
    """The part of ``config_sentence_transformers.json`` about what is put before a text."""

    prompts: dict[str, str] = {}
    default_prompt_name: str | None = None


@dataclass(frozen=True)
class Encoding:
    """The steps from a text to a vector.

    Attributes:
        modes: of the pooling; the vector has a part of each.
        longest: most tokens of a text; None where only model and tokenizer know.
    """

    folder: Folder
    modes: tuple[str, ...]
    normalize: bool = False
    longest: int | None = None
    notes: tuple[str, ...] = ()


class EncoderOriginal:
    """An encoder of transformers, pooled as sentence-transformers does, that answers for its folder text by text."""

    def __init__(self, model: Any, tokenizer: Any, longest: int, encoding: Encoding) -> None:
        self._model, self._tokenizer, self._longest, self._encoding = model, tokenizer, longest, encoding

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the vectors of texts.

        Raises:
            BringError: the model refuses a text.
        """
        return [np.stack([self._vector(text) for text in tensors[texts.INPUT]])]

    def _vector(self, text: str) -> Array:
        try:
            with quiet(), torch.inference_mode():
                tokens = self._tokenizer(text, truncation=True, max_length=self._longest, return_tensors="pt")
                vectors = self._model(**tokens).last_hidden_state[0].numpy()
        except Exception as error:  # a model raises what its code does
            raise BringError(f"the model cannot compute {text[:40]!r}: {first_line(error)}") from error
        vector = np.concatenate([_OWN[mode](vectors) for mode in self._encoding.modes])
        length = np.linalg.norm(vector) if self._encoding.normalize else 1
        return np.asarray(vector / max(length, LEAST), np.float32)


def read(encoding: Encoding) -> Brought:
    """Read an encoder of texts.

    Raises:
        BringError: it cannot be loaded or exported.
    """
    folder = encoding.folder
    model, tokenizer = folder.model("AutoModel", optional="pooler."), texts.tokenizer_of(folder)
    longest = texts.longest_of(folder, model, tokenizer, encoding.longest)
    intake = texts.intake_of(tokenizer, longest)

    def head(outputs: Any, mask: Tensor) -> Tensor:
        weights = mask[:, :, None].to(outputs.last_hidden_state.dtype)
        vector = torch.cat([_POOLED[mode](outputs.last_hidden_state, weights) for mode in encoding.modes], 1)
        return torch.nn.functional.normalize(vector, dim=1, eps=LEAST) if encoding.normalize else vector

    module = texts.TextModule(model, tokenizer.pad_token_id or 0, head)
    graph = texts.export(folder, module, intake, longest)
    (vector,) = map(port_of, graph.graph.output)
    steps = [f"{' and '.join(encoding.modes)} pooling", *(["normalized"] if encoding.normalize else [])]
    outputs = (Port(OUTPUT, vector.kind, vector.sizes),)
    brought = folder.brought(graph, outputs, EncoderOriginal(model, tokenizer, longest, encoding), intake)
    return replace(brought, kind=", ".join([brought.kind, *steps]), notes=encoding.notes)


def of_encoder(folder: Folder, pooling: str) -> Encoding:
    """Return the steps of an encoder whose pooling is named.

    Raises:
        BringError: there is no such pooling.
    """
    _check(folder.path, (pooling,))
    return Encoding(folder, (pooling,))


def of_sentence_transformers(path: Path) -> Encoding:
    """Return the steps that ``modules.json`` lists.

    Raises:
        BringError: the folder is damaged, or has a step that is not known.
    """
    modules = _decoded(path / MODULES, list[Module])
    kinds = [module.type.rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise BringError(
            f"{path} has the steps {', '.join(kinds)}; Transformer, Pooling and maybe Normalize can be imported"
        )
    inner = path / modules[0].path
    own = inner / "sentence_bert_config.json"
    settings = _decoded(own, TransformerConfig) if own.exists() else TransformerConfig()
    if settings.do_lower_case:
        raise BringError(f"{own}: do_lower_case is not supported; the tokenizer can do it")
    modes = _decoded(path / modules[1].path / "config.json", PoolingConfig).modes()
    _check(path, modes)
    return Encoding(open_folder(inner), modes, len(kinds) == 3, settings.max_seq_length, _notes(path))


def _notes(path: Path) -> tuple[str, ...]:
    """Return a sentence about prompts, which sentence-transformers puts before texts."""
    file = path / "config_sentence_transformers.json"
    config = _decoded(file, PromptsConfig) if file.exists() else PromptsConfig()
    prompts = {name: prompt for name, prompt in config.prompts.items() if prompt}
    if not prompts:
        return ()
    texts_of = ", ".join(f"{name} {prompt!r}" for name, prompt in prompts.items())
    default = f"; {config.default_prompt_name} by default" if config.default_prompt_name in prompts else ""
    return (f"a prompt is the client's to put before a text: {texts_of}{default}",)


def _check(path: Path, modes: Sequence[str]) -> None:
    if not modes or (unknown := [mode for mode in modes if mode not in _POOLED]):
        name = unknown[0] if modes else "none"
        raise BringError(f"{path}: the pooling {name!r} cannot be imported; {', '.join(_POOLED)} can")


def _decoded(file: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise BringError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BringError(f"{file} is damaged: {error}") from error
