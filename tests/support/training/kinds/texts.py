"""Folders of transformers and of sentence-transformers, and a language model."""

from pathlib import Path
from typing import Any

import torch

from tests.support.training.kinds.made import Made

TEXTS = ["a fine film", "the worst film of the year 😀", "not bad at all " * 50, "שלום"]
ENTITIES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}


def mood(folder: Path) -> Made:
    """A folder of transformers that tells classes of texts."""
    from tests.support.training import huggingface

    model = folder / "model"
    huggingface.save(model, "Roberta", "ForSequenceClassification", id2label=huggingface.EMOTIONS)
    pipeline = huggingface.transformers.pipeline("text-classification", model=str(model))
    answers = []
    for text in TEXTS:
        shares = pipeline(text, top_k=None, truncation=True, max_length=huggingface.POSITIONS)
        answers.append([{each["label"]: each["score"] for each in shares}[name] for name in pipeline_labels(pipeline)])
    return Made(model, texts(folder), {"text": TEXTS}, answers, pipeline_labels(pipeline), "RobertaForSequenceClass")


def pipeline_labels(pipeline: Any) -> tuple[str, ...]:
    """The labels in their order."""
    return tuple(pipeline.model.config.id2label.values())


def texts(folder: Path) -> tuple[str | Path, ...]:
    """Write texts, one a line, and return the option that names them."""
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    return "--example", folder / "texts.txt"


def vectors(folder: Path) -> Made:
    """A folder of sentence-transformers with a dense layer."""
    from tests.support.training import huggingface
    from tests.training.bring.files.huggingface.test_sentence_transformers import MEAN, TANH, encoded, layer

    linear, model = layer(32, 16), folder / "model"
    huggingface.save_sentences(model, "Bert", MEAN, normalize=True, most=32, layers=[(linear, TANH)])
    answers = []
    for text in TEXTS:
        with torch.inference_mode():
            vector = linear(encoded(model, text, 32).mean(0)).tanh()
        answers.append((vector / vector.norm()).tolist())
    return Made(model, texts(folder), {"text": TEXTS}, answers, told="mean pooling, dense to 16 (Tanh), normalized")


def names(folder: Path) -> Made:
    """A folder of transformers that labels tokens, whose entities ``test_huggingface`` looks at."""
    from tests.support.training import huggingface

    model = huggingface.save(folder / "model", "DistilBert", "ForTokenClassification", id2label=ENTITIES)
    return Made(model, texts(folder), told="DistilBertForTokenClassification")


def smol(folder: Path) -> Made:
    """A language model, whose conversation ``test_every_kind`` looks at."""
    from tests.support.training import tiny

    file = tiny.teach(tiny.load(tiny.write(folder / "tiny.gguf")), folder / "taught.gguf")
    return Made(file, (), told="perplexity ")
