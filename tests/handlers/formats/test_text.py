"""Texts in every wire format, alone and with others, too long and empty."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.formats.text import TRUNCATED, TextCodec
from handlers.formats.tokens import TextTokenizer, entities_of, tensors_of
from handlers.message import Request
from tests.support.handlers import wire
from tests.support.handlers.models import MAX_ROWS

pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")

from tests.support.handlers.texts import LONGEST, REVIEWS, codec, serve, settings

PATHS = {
    "native": "$.text",
    "v1": "$.instances[1].text",
    "v2": "$.inputs[0].data[1]",
    "v2 nested": "$.inputs[0].data[1]",
    "v2 binary": "$.inputs[0].data[1]",
    "npy": "$[1]",
}
LONG = "good film " * LONGEST


def write(name: str, *texts: str) -> Request:
    return wire.WRITERS[name](REVIEWS, {"text": np.array(texts, object)})


@pytest.mark.parametrize("name", list(wire.WRITERS))
def test_every_format_gives_the_graph_the_tokens(name: str) -> None:
    texts = ["Good film."] if name == "native" else ["Good film.", "bad"]
    decoded = codec().decode(write(name, *texts))
    assert wire.same(decoded.tensors["text"], TextTokenizer(settings())(texts).indices)
    assert decoded.rows == len(texts)


@pytest.mark.parametrize("name", list(wire.WRITERS))
@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_an_empty_text_is_refused_with_its_place(name: str, text: str) -> None:
    texts = [text] if name == "native" else ["good", text]
    assert wire.fault(serve(), write(name, *texts)) == (400, "empty", PATHS[name])


def test_texts_of_different_length_are_answered_together_as_alone() -> None:
    requests = [write("native", "bad"), write("v1", "good film", "film"), write("v2", LONG), write("native", "")]
    together = serve().handle(requests)
    assert [response.status for response in together] == [200, 200, 200, 400]
    assert together == [serve().handle([request])[0] for request in requests]


@pytest.mark.parametrize("name", list(wire.WRITERS))
def test_what_was_cut_is_said_in_a_header(name: str) -> None:
    texts = [LONG] if name == "native" else [LONG, "bad", LONG]
    (response,) = serve().handle([write(name, *texts)])
    assert response.status == 200
    assert response.headers[TRUNCATED] == ("0" if name == "native" else "0,2")


def test_a_text_that_was_cut_is_answered_by_its_beginning() -> None:
    beginning = " ".join(LONG.split()[: LONGEST - 2])
    whole, cut = serve().handle([write("native", beginning), write("native", LONG)])
    assert whole.body == cut.body
    assert TRUNCATED not in whole.headers


def test_the_binary_format_keeps_its_own_header() -> None:
    binary = {"parameters": {"binary_data_output": True}}
    (response,) = serve().handle([wire.v2_binary(REVIEWS, {"text": np.array([LONG], object)}, **binary)])
    assert set(response.headers) == {"Inference-Header-Content-Length", TRUNCATED}


def test_half_a_surrogate_pair_is_a_400() -> None:
    status, code, _ = wire.fault(serve(), wire.request(b'{"text": "\\ud800"}'))
    assert (status, code) == (400, "invalid_json")


def test_the_tokenizer_is_read_from_the_archive(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "tokenizer.json").write_bytes(settings())
    opened = TextCodec.open(tmp_path, REVIEWS, MAX_ROWS)
    request = write("native", "good")
    assert wire.same(opened.decode(request).tensors["text"], codec().decode(request).tensors["text"])
    assert opened.max_rows == MAX_ROWS


TEXTS = st.lists(st.text(max_size=30).map(lambda text: text.rstrip("\0")), min_size=1, max_size=4)


@given(TEXTS, st.sampled_from(list(wire.WRITERS)))
def test_any_text_is_answered_or_refused_as_empty(texts: list[str], name: str) -> None:
    (response,) = serve().handle([write(name, *texts)])
    assert response.status == 200 or (response.status, response.error and response.error.code) == (400, "empty")
    if response.status == 200 and name == "v1":
        assert len(json.loads(response.body)["predictions"]) == len(texts)


@pytest.mark.parametrize("name", ["v2", "v2 nested", "v2 binary", "npy"])
def test_a_column_of_texts_is_answered_as_the_texts(name: str) -> None:
    texts = np.array(["good film", "bad"], object)
    column = wire.WRITERS[name](REVIEWS, {"text": texts[:, None]})
    assert wire.ask(serve(), column) == wire.ask(serve(), wire.WRITERS[name](REVIEWS, {"text": texts}))


def test_neighbouring_tokens_of_a_label_are_an_entity_unless_another_one_begins() -> None:
    text, labels = "Ann Lee, Bo in New York", ("O", "B-PER", "I-PER", "I-LOC", "X-PER", "LOC")
    spans = np.array([[-1, -1], [0, 3], [4, 7], [7, 8], [9, 11], [12, 14], [15, 18], [19, 23], [-1, -1]])
    sure = 0.25 + np.eye(6, dtype=np.float32) / 2

    def found(*chosen: int) -> list[tuple[str, str, int, int]]:
        entities = entities_of(labels, text, sure[[0, *chosen, 2, 1]], spans)
        return [(entity.entity_group, entity.word, entity.start, entity.end) for entity in entities]

    assert found(1, 2, 0, 1, 0, 3, 5) == [("PER", "Ann Lee", 0, 7), ("PER", "Bo", 9, 11), ("LOC", "New York", 15, 23)]
    assert found(1, 1, 0, 0, 0, 0, 0) == [("PER", "Ann", 0, 3), ("PER", "Lee", 4, 7)]
    assert found(2, 4, 0, 0, 0, 0, 0) == [("PER", "Ann", 0, 3), ("PER", "Lee", 4, 7)]
    assert found(0, 0, 0, 0, 0, 0, 0) == []
    shares = sure[[0, 1, 2, 0, 0, 0, 0, 0, 0]]
    shares[2] /= 2
    (one,) = entities_of(labels, text, shares, spans)
    assert one.score == pytest.approx((0.75 + 0.375) / 2)


def test_texts_without_an_entity_have_tensors_of_no_width() -> None:
    assert {name: array.shape for name, array in tensors_of([[], []]).items()} == dict.fromkeys(
        ("entity_group", "score", "word", "start", "end"), (2, 0)
    )


def test_spans_are_characters_of_the_text_and_marks_have_none() -> None:
    (spans,) = TextTokenizer(settings(), with_spans=True)(["😀 Good film"]).spans
    assert spans.tolist() == [[-1, -1], [0, 1], [2, 6], [7, 11], [-1, -1]]
    assert TextTokenizer(settings())(["good"]).spans == ()
