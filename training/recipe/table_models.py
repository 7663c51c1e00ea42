"""The network of recipes whose data are a table, and what it is compared with."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handlers.contract import Array
from training.recipe import Data, Split

MOST_FITTED = 50_000  # rows that the baselines learn from: more take minutes
FARTHEST = 10.0  # standard deviations from the mean; a number farther out counts as that far


class TableNetwork(nn.Module):
    """Layers on scaled numbers, on whether each is missing, and on a vector for each category.

    A linear layer on the same is added. A missing number counts as the mean.

    Args:
        data: gives the inputs, the scale of their numbers, and the scale of a regression's truth.
        classes: number of labels; 0 for a regression.
        hidden: widths of the layers.
        dropout: probability that a number is left out behind each of them, while training.
    """

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, data: Data, classes: int = 0, hidden: Sequence[int] = (64, 64), dropout: float = 0.1) -> None:
        super().__init__()
        self.named = [bool(spec.categories) for spec in data.inputs]
        sizes = [len(spec.categories) for spec in data.inputs if spec.categories]
        embeddings = [nn.Embedding(size, min(16, (size + 1) // 2)) for size in sizes]
        for embedding in embeddings:
            nn.init.normal_(embedding.weight, std=0.1)  # a category that was never fitted says little
        self.embeddings = nn.ModuleList(embeddings)
        scalars = [spec for spec in data.inputs if not spec.categories]
        numbers = [data.train.inputs[spec.name].astype(np.float64) for spec in scalars]
        numbers = [values[np.isfinite(values)] for values in numbers]
        self.register_buffer("mean", _floats([values.mean() if len(values) else 0.0 for values in numbers]))
        self.register_buffer("std", _floats([(values.std() if len(values) else 0.0) or 1.0 for values in numbers]))
        target = data.train.target.astype(np.float64)
        self.register_buffer("target_mean", _floats(0.0 if classes else target.mean()))
        self.register_buffer("target_std", _floats(1.0 if classes else target.std() or 1.0))
        self.nullable = [i for i, spec in enumerate(scalars) if spec.nullable]
        width = len(numbers) + len(self.nullable) + sum(embedding.embedding_dim for embedding in embeddings)
        self.linear = nn.Linear(width, classes or 1)
        layers: list[nn.Module] = []
        for inner in hidden:
            layers += [nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout)]
            width = inner
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes or 1))
        self.classes = classes

    def forward(self, *columns: Tensor) -> Tensor:
        """(n,) numbers, NaN where missing, INT64 (n,) categories -> FP32 (n, classes) logits, or (n,) values."""
        numbers = [column.float() for column, named in zip(columns, self.named, strict=True) if not named]
        indices = [column for column, named in zip(columns, self.named, strict=True) if named]
        features = [embedding(index) for embedding, index in zip(self.embeddings, indices, strict=True)]
        if numbers:
            scaled = (torch.stack(numbers, 1) - self.mean) / self.std
            missing = scaled.isnan()
            features.append(torch.where(missing, 0.0, scaled.clamp(-FARTHEST, FARTHEST)))
            features += [missing[:, self.nullable].float()] if self.nullable else []
        x = torch.cat(features, 1)
        output: Tensor = self.linear(x) + self.layers(x)
        return output if self.classes else output[:, 0] * self.target_std + self.target_mean


def _floats(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def table_baselines(data: Data, classes: int = 0) -> Mapping[str, Array]:
    """Predict the held-out rows by the commonest class or the mean, a linear model, and gradient-boosted trees.

    Args:
        classes: number of labels; 0 for a regression.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    named = [bool(spec.categories) for spec in data.inputs]
    wide, raw = _one_hot, _matrix
    forms: dict[str, tuple[Any, Callable[[Split, Data], Array]]]
    if classes:
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        trees = HistGradientBoostingClassifier(categorical_features=named, random_state=0)
        forms = {"majority class": (DummyClassifier(), raw), "logistic regression": (linear, wide)}
    else:
        linear = make_pipeline(StandardScaler(), Ridge())
        trees = HistGradientBoostingRegressor(categorical_features=named, random_state=0)
        forms = {"mean": (DummyRegressor(), raw), "ridge regression": (linear, wide)}
    forms["gradient-boosted trees"] = (trees, raw)
    train = data.train.part(np.random.default_rng(0).permutation(len(data.train))[:MOST_FITTED])
    answers = {}
    for name, (model, features) in forms.items():
        with quietly():
            model.fit(features(train, data), train.target)
            answers[name] = answer(model, features(data.test, data), classes)
    return answers


@contextmanager
def quietly() -> Iterator[None]:
    """Fit an estimator of scikit-learn in one thread, without a word on a linear one that has not converged."""
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):  # threads that wait for a busy core take minutes
        warnings.simplefilter("ignore")
        yield


def answer(model: Any, features: Any, classes: int) -> Array:
    """Return what an estimator of scikit-learn predicts: values, or a probability for each of the classes."""
    if not classes:
        return np.asarray(model.predict(features), np.float32)
    probabilities = np.zeros((features.shape[0], classes), np.float32)
    probabilities[:, model.classes_] = model.predict_proba(features)  # it knows the classes that it was fitted to
    return probabilities


def _matrix(split: Split, data: Data) -> Array:
    return np.stack([split.inputs[spec.name] for spec in data.inputs], 1).astype(np.float64)


def _one_hot(split: Split, data: Data) -> Array:
    parts = []
    for spec in data.inputs:
        values = split.inputs[spec.name]
        if spec.categories:
            parts.append(np.eye(len(spec.categories))[values])
            continue
        fitted = data.train.inputs[spec.name].astype(np.float64)
        fitted = fitted[np.isfinite(fitted)]
        mean = fitted.mean() if len(fitted) else 0.0
        parts.append(np.where(np.isfinite(values), values, mean)[:, None])
    return np.hstack(parts)
