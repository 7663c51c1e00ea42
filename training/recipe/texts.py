"""A table with a column of texts as the data of a recipe, and a network of words and pairs of words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from handlers.formats.tokens import FILE, PAD, TextTokenizer
from serving.registry import file_sha256
from training.data import DataError, install
from training.recipe import Data, Split
from training.recipe.rows import column_of, input_name, names_of, read_frame, seconds, split_rows, truth
from training.recipe.table_models import answer, quietly

UNKNOWN = 1  # index of every word that is not in the vocabulary
SELDOM = 2  # times that a word must be there to be in it
MOST_WORDS = 20_000
PAIRS = 1 << 15  # places of pairs of words, which share them by chance
FACTOR = 31_337  # spreads pairs over the places


@dataclass(frozen=True)
class Texts:
    """A CSV file with a text and its truth in each row.

    Attributes:
        text: column of the texts; blank ones are left out.
        target: column of the truth; rows without one are left out.
        longest: words and signs of a text; the rest is cut off.
        time: column by which rows are split, the newest held out. Empty: at random.
        time_format: as of ``training.recipe.table.Table``.
        read: options of ``pandas.read_csv``.
    """

    file: Path
    text: str
    target: str
    longest: int = 256
    time: str = ""
    time_format: str = "ISO8601"
    read: Mapping[str, object] = field(default_factory=dict)

    def load(self, labels: Sequence[str] = ()) -> Data:
        """Read all rows, and make the vocabulary of the texts to fit.

        Raises:
            DataError: the file cannot be read, or a value is not what its column should have.
        """
        return self.data(read_frame(self.file, self.read), labels, file_sha256(self.file))

    def data(self, frame: Any, labels: Sequence[str], sha256: str) -> Data:
        """Split rows that are read, and turn their texts into words of the vocabulary."""
        for name in filter(None, (self.text, self.target, self.time)):
            frame = frame[names_of(column_of(frame, name, self.file)).notna()]
        target = truth(frame[self.target], labels, self.file)
        time = seconds(frame[self.time], self.time_format, self.file) if self.time else None
        parts = split_rows(target, len(labels), time, self.file)
        texts = names_of(frame[self.text]).to_numpy(object)
        settings = tokenizer_settings(texts[parts.train].tolist(), self.longest)
        tokenize = TextTokenizer(settings)
        tokens = np.full((len(texts), self.longest), PAD, np.int64)
        rows = tokenize(texts.tolist()).indices
        tokens[:, : rows.shape[1]] = rows
        name = input_name(self.text)
        spec = TensorSpec(name, "BYTES", description=f"what is over {self.longest} words is cut off")
        split = Split({name: tokens}, target, texts={name: texts}, time=time)
        train, validation, test = map(split.part, parts)
        return Data(train, test, (spec,), sha256, validation, assets={FILE: settings})


def tokenizer_settings(texts: Sequence[str], longest: int) -> bytes:
    """Return a ``tokenizer.json`` of the commonest words, in small letters without accents.

    Raises:
        DataError: the package that splits texts is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    except ImportError:
        raise DataError(f"texts are split by the package tokenizers: {install('sentiment')}") from None

    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    common = sorted((word for word, count in counts.items() if count >= SELDOM), key=lambda word: (-counts[word], word))
    words = ["[PAD]", "[UNK]", *(word for word in common[:MOST_WORDS] if word not in ("[PAD]", "[UNK]"))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.enable_truncation(longest)
    settings: str = tokenizer.to_str()
    return settings.encode()


class TextNetwork(nn.Module):
    """The mean of a vector for each word and each pair of neighbours, and a linear layer (Joulin et al. 2016).

    Args:
        data: gives the size of the vocabulary, and the scale of a regression's truth.
        classes: number of labels; 0 for a regression.
        width: numbers of a vector.
        dropout: probability that a number of the mean is left out, while training.
    """

    def __init__(self, data: Data, classes: int = 0, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        (tokens,) = data.train.inputs.values()
        self.words = nn.Embedding(max(int(tokens.max()), UNKNOWN) + 1, width, padding_idx=PAD)
        self.pairs = nn.Embedding(PAIRS, width)
        for embedding in (self.words, self.pairs):
            nn.init.normal_(embedding.weight, std=0.1)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes or 1)
        self.classes = classes
        target = data.train.target.astype(np.float64)
        self.scale = (1.0, 0.0) if classes else (float(target.std()) or 1.0, float(target.mean()))

    def forward(self, tokens: Tensor) -> Tensor:
        """INT64 (n, length), filled up with ``PAD`` -> FP32 (n, classes) logits, or (n,) values of a regression."""
        following = nn.functional.pad(tokens, (0, 1), value=PAD)[:, 1:]  # (n, length)
        pairs = (tokens * FACTOR + following) % PAIRS
        mask = (tokens != PAD).float()[:, :, None]
        paired = (following != PAD).float()[:, :, None]
        total = (self.words(tokens) * mask).sum(1) + (self.pairs(pairs) * paired).sum(1)  # (n, width)
        mean = total / (mask.sum(1) + paired.sum(1)).clamp(min=1)
        output: Tensor = self.linear(self.dropout(mean))
        std, centre = self.scale
        return output if self.classes else output[:, 0] * std + centre


def text_baselines(data: Data, classes: int = 0) -> Mapping[str, Array]:
    """Predict the commonest class or the mean, and by a linear model of the words' weights (TF-IDF).

    Args:
        classes: number of labels; 0 for a regression.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    (train,), (test,) = data.train.texts.values(), data.test.texts.values()
    words = TfidfVectorizer(sublinear_tf=True, max_features=MOST_WORDS, token_pattern=r"\w+|[^\w\s]")
    fitted, held_out = words.fit_transform(train), words.transform(test)
    if classes:
        models = {"majority class": DummyClassifier(), "logistic regression": LogisticRegression(max_iter=300)}
    else:
        models = {"mean": DummyRegressor(), "ridge regression": Ridge()}
    with quietly():
        return {name: answer(model.fit(fitted, data.train.target), held_out, classes) for name, model in models.items()}
