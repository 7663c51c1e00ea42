"""A folder of transformers: configuration, weights and tokenizer, read offline and without running code of it."""

import hashlib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch

from serving.registry import file_sha256
from training.bring.files import zips
from training.bring.graph import BringError, Brought, Intake, Original, Port, first_line, inputs_of
from training.data import install
from training.packaging.export import quiet

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST = 2_000_000_000  # bytes of a graph with its weights, the limit of protobuf


class Config(msgspec.Struct, frozen=True):
    """The parts of ``config.json`` that say what a model is.

    Attributes:
        auto_map: classes whose code lies in the folder.
    """

    model_type: str = ""
    architectures: tuple[str, ...] = ()
    auto_map: dict[str, Any] = {}


@dataclass(frozen=True)
class Folder:
    """A folder with a model of transformers.

    Attributes:
        path: of the model itself.
        parts: folders with all files of the model, the given one first; empty where that is ``path`` alone.
    """

    path: Path
    config: Config
    parts: tuple[Path, ...] = ()

    @property
    def given(self) -> Path:
        """The folder that was given, in which the model's may lie."""
        return next(iter(self.parts), self.path)

    @property
    def architecture(self) -> str:
        """Name of the model's class, such as ``BertForSequenceClassification``."""
        return next(iter(self.config.architectures), "")

    def model(self, auto: str, optional: str = "-") -> Any:
        """Load the model in FP32.

        Args:
            auto: class of transformers that chooses the model's.
            optional: beginning of names of weights that may be missing.

        Raises:
            BringError: it cannot be loaded, or not whole; says why.
        """
        if not any((self.path / name).is_file() for name in WEIGHTS):
            raise BringError(f"{self.path} has no weights: {WEIGHTS[0]} is not there")
        for file in self.path.glob("*.bin"):
            zips.check_size(file)
        kind = getattr(library(), auto)
        model, report = self._loaded(kind, "its model", dtype=torch.float32, output_loading_info=True)
        if missing := sorted(name for name in report["missing_keys"] if not name.startswith(optional)):
            raise BringError(f"{self.path}: its weights lack {missing[0]}, and {len(missing) - 1} others")
        size = 4 * sum(parameter.numel() for parameter in model.parameters())
        if size > LARGEST:
            raise BringError(f"{self.path} has {size / 1e9:.1f} GB of weights in FP32; at most 2 GB can be imported")
        return model.eval()

    def processor(self, auto: str, what: str, **options: Any) -> Any:
        """Load a tokenizer or an image processor, by a class of transformers that chooses its class."""
        return self._loaded(getattr(library(), auto), what, **options)

    def brought(
        self,
        graph: onnx.ModelProto,
        outputs: tuple[Port, ...],
        original: Original,
        intake: Intake,
        labels: tuple[str, ...] = (),
    ) -> Brought:
        """Return the folder's model as one that came as a file; arguments as of ``Brought``."""
        return Brought(
            self.given.name,
            f"transformers, {self.architecture}",
            self.sha256(),
            graph,
            inputs_of(graph),
            outputs,
            labels,
            original=original,
            intake=intake,
        )

    def sha256(self) -> str:
        """Return the SHA-256 of all files' names and contents."""
        digest = hashlib.sha256()
        folders = {self.given, self.path, *self.parts}
        for file in sorted({file for folder in folders for file in folder.glob("*") if file.is_file()}):
            digest.update(f"{file.relative_to(self.given)} {file_sha256(file)}\n".encode())
        return digest.hexdigest()

    def _loaded(self, kind: Any, what: str, **options: Any) -> Any:
        try:
            with quiet():
                return kind.from_pretrained(self.path, local_files_only=True, trust_remote_code=False, **options)
        except Exception as error:  # of transformers, tokenizers, safetensors, torch: each raises its own
            raise BringError(f"{self.path}: {what} cannot be loaded: {_sentence(error)}") from error


def open_folder(path: Path, parts: tuple[Path, ...] = ()) -> Folder:
    """Read a folder's configuration; ``parts`` as of ``Folder``.

    Raises:
        BringError: there is none, or the model's code lies in the folder, which is never run.
    """
    try:
        config = msgspec.json.decode((path / CONFIG).read_bytes(), type=Config)
    except OSError as error:
        raise BringError(f"{path} has no {CONFIG} that can be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BringError(f"{path / CONFIG} is no configuration of transformers: {error}") from error
    if config.auto_map:
        classes = ", ".join(map(str, config.auto_map))
        raise BringError(f"{path}: the code of its {classes} lies in the folder or elsewhere, and is never run")
    return Folder(path, config, parts)


def library() -> Any:
    """Return transformers, which asks no server and prints nothing.

    Raises:
        BringError: it is not installed.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with quiet():
            transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise BringError(f"to import a folder of transformers, {install('import-huggingface')}") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _sentence(error: Exception) -> str:
    """Return the text of an error without its advice to download."""
    text = " ".join(str(error).split()) or type(error).__name__
    return first_line(ValueError(text.partition(" If you were trying to load")[0]))
