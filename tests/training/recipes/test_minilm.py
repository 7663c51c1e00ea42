import pytest
import torch
from torch import Tensor

from handlers.formats.tokens import PAD
from training.recipes._minilm import GROUP, LAYERS, VOCABULARY, MiniLM, load_weights


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    torch.manual_seed(0)
    return MiniLM(dropout=0.1).eval()


def texts(lengths: list[int], width: int) -> Tensor:
    """Random tokens, filled up."""
    tokens = torch.full((len(lengths), width), PAD)
    generator = torch.Generator().manual_seed(0)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(1, VOCABULARY, (length,), generator=generator)
    return tokens


def test_it_has_the_known_number_of_weights(encoder: MiniLM) -> None:
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 22_565_376  # BERT's without its pooler


def test_a_texts_vector_does_not_depend_on_what_it_is_computed_with(encoder: MiniLM) -> None:
    lengths = [2, 30, 5, 17] * GROUP
    tokens = texts(lengths, 40)
    with torch.inference_mode():
        together = encoder(tokens)
        alone = torch.cat([encoder(row[None, :length]) for row, length in zip(tokens[:4], lengths[:4], strict=True)])
    assert together.shape == (len(lengths), 384)
    torch.testing.assert_close(together[:4], alone, atol=1e-5, rtol=0)


def test_words_and_their_order_matter(encoder: MiniLM) -> None:
    tokens = texts([6, 6], 6)
    tokens[1] = tokens[0].flip(0)
    with torch.inference_mode():
        one, other = encoder(tokens)
    assert (one - other).abs().max() > 1e-4


def test_frozen_layers_and_words_get_no_gradient() -> None:
    module = MiniLM(dropout=0.0)
    module.freeze(LAYERS - 1)
    module(texts([4, 3], 4)).sum().backward()
    learning = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, _ in module.named_parameters() if name.startswith(f"layers.{LAYERS - 1}.")}


def test_weights_are_read_under_berts_names(encoder: MiniLM) -> None:
    safetensors = pytest.importorskip(
        "safetensors.torch", reason="safetensors is not installed: pip install -e '.[sentiment]'"
    )
    bert = {
        "embeddings.word_embeddings.weight": "words.weight",
        "embeddings.LayerNorm.bias": "norm.bias",
        "encoder.layer.3.attention.self.query.weight": "layers.3.query.weight",
        "encoder.layer.3.attention.output.dense.bias": "layers.3.attended.bias",
        "encoder.layer.3.attention.output.LayerNorm.weight": "layers.3.attention_norm.weight",
        "encoder.layer.5.intermediate.dense.weight": "layers.5.inner.weight",
        "encoder.layer.5.output.LayerNorm.bias": "layers.5.norm.bias",
    }
    from training.recipes._minilm import _berts_name

    weights = {
        _berts_name(name): torch.full_like(value, i) for i, (name, value) in enumerate(encoder.state_dict().items())
    }
    other = MiniLM(dropout=0.0)
    load_weights(other, safetensors.save(weights))
    for theirs, ours in bert.items():
        assert torch.equal(other.state_dict()[ours], weights[theirs])


def test_weights_of_another_network_are_refused(encoder: MiniLM) -> None:
    safetensors = pytest.importorskip(
        "safetensors.torch", reason="safetensors is not installed: pip install -e '.[sentiment]'"
    )
    with pytest.raises(KeyError, match="embeddings"):
        load_weights(encoder, safetensors.save({"weight": torch.zeros(1)}))
