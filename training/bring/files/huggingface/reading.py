"""The kind of a folder, and its reader."""

from pathlib import Path

from training.bring.files.huggingface import classification, embeddings, entities, pictures, sentence_transformers
from training.bring.files.huggingface.folder import CONFIG, WEIGHTS, Folder, library, open_folder
from training.bring.graph import BringError, Brought

_HEADS = {
    "ForSequenceClassification": classification.read,
    "ForTokenClassification": entities.read,
    "ForImageClassification": pictures.read,
}


def is_folder(path: Path) -> bool:
    """Tell whether a folder is one of transformers, whole or damaged."""
    return path.is_dir() and any((path / name).exists() for name in (CONFIG, sentence_transformers.MODULES, *WEIGHTS))


def read(path: Path, pooling: str) -> Brought:
    """Read a folder of transformers or sentence-transformers.

    Args:
        pooling: of a bare encoder's vectors; empty for none.

    Raises:
        BringError: it is damaged, or of a kind that is not known.
    """
    library()
    if (path / sentence_transformers.MODULES).exists():
        return embeddings.read(sentence_transformers.read_encoding(path))
    folder = open_folder(path)
    if pooling:
        return embeddings.read(embeddings.of_encoder(folder, pooling))
    for ending, reader in _HEADS.items():
        if folder.architecture.endswith(ending):
            return reader(folder)
    raise BringError(_unknown(folder))


def _unknown(folder: Folder) -> str:
    known = ", ".join(f"…{ending}" for ending in _HEADS)
    return (
        f"{folder.path} holds {folder.architecture or 'a model of no class'}; {known} can be imported, and an "
        "encoder's vectors with --pooling mean, cls or max"
    )
