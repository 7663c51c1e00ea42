from pathlib import Path

import numpy as np
import pytest
import torch

from handlers.contract import Array
from tests.support.training import tiny as making
from tests.support.training.tiny import HEADS, SIZE, WIDTH, Tiny
from training.data import DataError
from training.language import gguf_file


def turned_pairs(x: Array) -> Array:
    """The rotary embedding of a head's vectors ``(length, size)``, neighbours turned against each other."""
    frequencies = 10000.0 ** (-np.arange(0, SIZE, 2) / SIZE)
    angles = np.outer(np.arange(len(x)), frequencies)
    even, odd = x[:, ::2], x[:, 1::2]
    turned = np.empty_like(x)
    turned[:, ::2] = even * np.cos(angles) - odd * np.sin(angles)
    turned[:, 1::2] = even * np.sin(angles) + odd * np.cos(angles)
    return turned


def test_what_is_written_is_read_again_within_the_error_of_its_bits(tiny: Tiny, tmp_path: Path) -> None:
    for quantization in gguf_file.QUANTIZATIONS:
        path = tmp_path / f"{quantization}.gguf"
        gguf_file.write_gguf(tiny.path, tiny.metadata, tiny.weights, path, quantization)
        metadata, weights = gguf_file.read_gguf(path)
        assert metadata == tiny.metadata
        assert weights.keys() == tiny.weights.keys()
        for name, values in tiny.weights.items():
            if values.ndim == 1:
                np.testing.assert_array_equal(weights[name], values)
                continue
            blocks = abs(values.reshape(-1, 32)).max(1, keepdims=True)
            # Half of one of 127 steps, and the scale itself is rounded to 16 bits.
            allowed = blocks / 127 * 0.5 + blocks * 2**-11 if quantization == "Q8_0" else blocks * 2**-11
            assert (abs(weights[name] - values).reshape(-1, 32) <= allowed).all(), name


def test_every_key_is_kept_but_that_of_the_quantization(tiny: Tiny, tmp_path: Path) -> None:
    from gguf import GGUFReader

    gguf_file.write_gguf(tiny.path, tiny.metadata, tiny.weights, tmp_path / "q.gguf", "Q8_0")
    before, after = (
        {name: field.contents() for name, field in GGUFReader(path).fields.items() if not name.startswith("GGUF.")}
        for path in (tiny.path, tmp_path / "q.gguf")
    )
    assert after == before | {"general.file_type": 7}


def test_the_order_of_rows_is_changed_back_and_forth() -> None:
    matrix = np.arange(HEADS * SIZE * 3).reshape(HEADS * SIZE, 3)
    np.testing.assert_array_equal(gguf_file.interleaved(gguf_file.halved(matrix, HEADS), HEADS), matrix)
    np.testing.assert_array_equal(gguf_file.halved(gguf_file.interleaved(matrix, HEADS), HEADS), matrix)
    assert gguf_file.halved(matrix, HEADS)[:, 0].tolist() != matrix[:, 0].tolist()


def test_scores_of_attention_are_those_of_neighbours_turned_as_the_file_has_them(tiny: Tiny) -> None:
    from training.language.llama import _rotate, _turns

    x = np.random.default_rng(0).normal(size=(12, WIDTH)).astype(np.float32)
    query, key = (tiny.weights[f"blk.0.attn_{name}.weight"] for name in "qk")
    cos, sin = _turns(12, SIZE, tiny.metadata.rope_base)
    stored_query, stored_key = gguf_file.interleaved(query, HEADS), gguf_file.interleaved(key, 1)
    for head in range(HEADS):
        rows = slice(head * SIZE, (head + 1) * SIZE)
        as_stored = turned_pairs(x @ stored_query[rows].T) @ turned_pairs(x @ stored_key.T).T
        halves = [_rotate(torch.from_numpy(x @ part.T), cos, sin).numpy() for part in (query[rows], key)]
        np.testing.assert_allclose(halves[0] @ halves[1].T, as_stored, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04" + bytes(100)])
def test_a_file_of_another_kind_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} is no GGUF file: "):
        gguf_file.read_gguf(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing.gguf is no GGUF file: "):
        gguf_file.read_gguf(tmp_path / "missing.gguf")


@pytest.mark.parametrize("kept", [30, 1000, 0.5])
def test_a_file_that_ends_early_is_an_error_that_names_it(tiny: Tiny, tmp_path: Path, kept: float) -> None:
    whole = tiny.path.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    with pytest.raises(DataError, match=f"{path} is no GGUF file: "):
        gguf_file.read_gguf(path)


def test_another_architecture_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = making.write(tmp_path / "mamba.gguf", architecture="mamba")
    with pytest.raises(DataError, match=f"{path} is of the architecture mamba; only llama can be read"):
        gguf_file.read_gguf(path)


@pytest.mark.parametrize("key", ["llama.rope.freq_base", "tokenizer.ggml.merges", "tokenizer.chat_template"])
def test_a_key_that_is_not_there_is_an_error_that_names_it(tmp_path: Path, key: str) -> None:
    path = making.write(tmp_path / "lacking.gguf", without=key)
    with pytest.raises(DataError, match=f"{path} lacks the key {key}"):
        gguf_file.read_gguf(path)
