"""The recipe of texts beyond what every recipe must keep to; tests that need the sentences are skipped without them."""

import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from handlers.engine import ENGINES
from handlers.formats.text import TRUNCATED, TextCodec
from handlers.formats.tokens import PAD, TextTokenizer
from handlers.handler import ModelHandler
from tests.support.documents import document
from tests.support.handlers import wire
from tests.support.training.trainings import CACHE, Trainings, load
from training import recipes
from training.recipes import sentiment
from training.recipes.sentiment import Sentiment, SentimentHyperparameters

recipe = Sentiment()


def sdist(folder: Path, **files: str) -> Path:
    """A source distribution with one text file a source."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for source, text in files.items():
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{sentiment.FILES[source]}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    path = folder / "sdist.tar.gz"
    with tarfile.open(path, "w:gz") as outer:
        info = tarfile.TarInfo(sentiment.ARCHIVE)
        info.size = len(inner.getvalue())
        outer.addfile(info, io.BytesIO(inner.getvalue()))
    return path


def test_each_sentence_is_read_once_however_it_is_written(tmp_path: Path) -> None:
    movie = "1\t-1.5\tBad film.\r\n2\t0.6\tFine\r\n3\t-1.4\tBAD  film!\r\n"
    read = sentiment._read(sdist(tmp_path, movie=movie, amazon="1_1\t0\tIt is.\r\n", nyt="1_1\t2\tSo so\r\n"))
    assert list(read) == ["movie", "amazon", "nyt"]
    assert sorted(read["movie"].tolist()) == [["movie", "BAD  film!", "-1.4"], ["movie", "Fine", "0.6"]]


def test_the_middle_half_point_either_way_is_neutral() -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")
    from tests.support.handlers.texts import settings

    ratings = ["-4", "-0.6", "-0.5", "0", "0.5", "0.51", "3.2"]
    rows = np.array([("movie", "good", rating) for rating in ratings], object)
    split = sentiment._split(rows, TextTokenizer(settings()))
    assert split.target.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert split.inputs["text"].shape == (7, TextTokenizer(settings()).longest)


def test_polarity_asks_only_whether_negative_or_positive_is_likelier_where_the_truth_is_not_neutral() -> None:
    right, wrong, draw = [0.1, 0.8, 0.1 + 1e-3], [0.5, 0.1, 0.4], [0.0, 1.0, 0.0]
    output = np.array([right, wrong, draw, right[::-1], wrong], np.float32)
    assert recipe.metrics(output, np.array([2, 2, 2, 0, 1]))["polarity"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_a_batch_ends_where_its_longest_text_ends() -> None:
    tokens = np.array([[5, 6, PAD, PAD], [5, PAD, PAD, PAD]])
    assert recipe.batch({"text": tokens})["text"].tolist() == [[5, 6], [5, PAD]]


def test_the_neutral_class_is_likeliest_in_the_middle_of_the_score() -> None:
    module = sentiment.SentimentClassifier(dropout=0.0).eval()
    with torch.no_grad():
        module.score.weight[:] = 0
        found = []
        for score in (-3.0, 0.0, 3.0):
            module.score.bias[:] = score
            found.append(int(module(torch.tensor([[5, 6]])).argmax()))
    assert found == [0, 1, 2]


def test_only_movie_sentences_are_learned_and_every_source_is_tested() -> None:
    data = load(recipes.find("sentiment"))
    slices = data.test.slices
    assert slices is not None
    assert {name: int((slices == name).sum()) for name in sentiment.FILES} == dict.fromkeys(sentiment.FILES, 40)
    assert len(data.train) == 32


def test_no_sentence_is_both_learned_and_held_out() -> None:
    load(recipes.find("sentiment"))  # skips where there is no data
    everything = replace(SentimentHyperparameters(1, 32, 1e-4), rows=None, test_rows=sentiment.HELD_OUT)
    data = recipe.load(everything, CACHE)
    assert data.validation is not None
    train, test, validation = (set(part.texts["text"]) for part in (data.train, data.test, data.validation))
    assert (len(data.train), len(data.validation), len(data.test)) == (8_203, 400, 6_000)
    assert not train & test
    assert not train & validation
    assert not validation & test


def test_vader_knows_a_good_word_from_a_bad_one() -> None:
    data = load(recipes.find("sentiment"))
    texts = np.array(["A great film!", "A terrible film.", "It is a film."], object)
    test = replace(data.test.head(3), texts={"text": texts})
    assert recipe.baselines(replace(data, test=test))["VADER"].argmax(1).tolist() == [2, 0, 1]


def test_pretrained_weights_tell_alike_sentences_from_others() -> None:
    data = load(recipes.find("sentiment"))
    module = recipe.module(recipe.preset("smoke"), data).eval()
    tokenize = TextTokenizer(data.assets["tokenizer.json"])
    sentences = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    assert isinstance(module, sentiment.SentimentClassifier)
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(module.encoder(torch.from_numpy(tokenize(sentences).indices)), dim=1)
    likeness = vectors @ vectors.T
    assert float(likeness[0, 1]) == pytest.approx(0.7553, abs=1e-3)  # as the weights' authors publish it
    assert float(likeness[0, 2]) < 0


def test_its_graphs_take_texts_of_any_number_and_length(trained: Trainings, tmp_path: Path) -> None:
    result = trained(recipes.find("sentiment"))
    zipfile.ZipFile(result.archive).extractall(tmp_path)
    dimensions = onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dimension.dim_param for dimension in dimensions] == ["batch", "length"]
    for engine in ENGINES.values():
        run = engine(tmp_path, result.contract, 1).run
        for rows, length in ((1, 2), (3, 128), (2, 57)):
            tokens = np.full((rows, length), 1000)
            assert run({"text": tokens})["probabilities"].shape == (rows, 3)


def test_its_archive_answers_through_the_entry_point_and_says_what_it_cut(trained: Trainings, tmp_path: Path) -> None:
    result = trained(recipes.find("sentiment"))
    zipfile.ZipFile(result.archive).extractall(tmp_path)
    contract = result.contract
    assert contract.example.request.keys() == {"text"}
    codec = TextCodec.open(tmp_path, contract, 8)
    handler = ModelHandler(contract, ENGINES["onnxruntime"](tmp_path, contract, 1), codec)
    handler.check_example()
    short, long, empty = handler.handle([wire.request({"text": text}) for text in ("Fine.", "fine " * 200, " ")])
    assert (short.status, long.status, empty.status) == (200, 200, 400)
    assert (short.headers.get(TRUNCATED), long.headers.get(TRUNCATED)) == (None, "0")


def test_its_evaluation_has_every_slice_beside_vader(trained: Trainings) -> None:
    evaluation = document(trained(recipes.find("sentiment")).contract.evaluation)
    assert set(evaluation["slices"]) == set(sentiment.FILES)
    for part in (evaluation, *evaluation["slices"].values()):
        assert part["baselines"].keys() == {"majority class", "VADER"}
        assert 0 <= part["metrics"]["polarity"] <= 1
    assert sum(map(sum, evaluation["confusion"])) == evaluation["rows"] == 120
