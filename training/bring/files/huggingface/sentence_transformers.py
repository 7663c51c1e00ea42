"""A folder of sentence-transformers: the steps that its files list, from a text to a vector."""

from pathlib import Path
from typing import Any

import msgspec

from training.bring.files.huggingface.dense import DenseConfig, Normalize, Step, read_dense
from training.bring.files.huggingface.embeddings import Encoding, check_pooling
from training.bring.files.huggingface.folder import open_folder
from training.bring.graph import BringError

MODULES = "modules.json"
CONFIG = "config.json"
FIRST, LATER = ("Transformer", "Pooling"), ("Dense", "Normalize")
_PACKAGE = "sentence_transformers."


class Module(msgspec.Struct, frozen=True):
    """An entry of ``modules.json``."""

    path: str
    type: str

    @property
    def kind(self) -> str:
        """Name of its class, in its package."""
        return self.type.rpartition(".")[2]


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


def read_encoding(path: Path) -> Encoding:
    """Return the steps that ``modules.json`` lists.

    Raises:
        BringError: the folder is damaged, or has a step that is not known.
    """
    modules = _modules(path)
    folders = [path / module.path for module in modules]
    own = folders[0] / "sentence_bert_config.json"
    settings = _decoded(own, TransformerConfig) if own.exists() else TransformerConfig()
    if settings.do_lower_case:
        raise BringError(f"{own}: do_lower_case is not supported; the tokenizer can do it")
    modes = _decoded(folders[1] / CONFIG, PoolingConfig).modes()
    check_pooling(path, modes)
    steps = tuple(_step(module.kind, folder) for module, folder in zip(modules[2:], folders[2:], strict=True))
    parts = (path, *folders)
    return Encoding(open_folder(folders[0], parts), modes, steps, settings.max_seq_length, _notes(path))


def _modules(path: Path) -> list[Module]:
    modules: list[Module] = _decoded(path / MODULES, list[Module])
    kinds = [module.kind for module in modules]
    unknown = [kind for kind in kinds[len(FIRST) :] if kind not in LATER]
    if tuple(kinds[: len(FIRST)]) != FIRST or unknown:
        raise BringError(
            f"{path} has the steps {', '.join(kinds) or 'none'}; {' and '.join(FIRST)}, and then "
            f"{' and '.join(LATER)} in any order, can be imported{f', {unknown[0]} cannot' if unknown else ''}"
        )
    if foreign := next((module.type for module in modules if not module.type.startswith(_PACKAGE)), None):
        raise BringError(f"{path}: the code of its {foreign} is none of sentence-transformers, and is never run")
    root = path.resolve()
    if outside := next((each.path for each in modules if not (root / each.path).resolve().is_relative_to(root)), None):
        raise BringError(f"{path / MODULES} names {outside!r}, which lies outside of the folder")
    return modules


def _step(kind: str, folder: Path) -> Step:
    if kind == "Normalize":
        return Normalize()
    return read_dense(folder, _decoded(folder / CONFIG, DenseConfig))


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


def _decoded(file: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise BringError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BringError(f"{file} is damaged: {error}") from error
