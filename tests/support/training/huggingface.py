"""Folders as transformers' ``save_pretrained`` writes them: tiny models of random weights, and their tokenizers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

INSTALL = "transformers is not installed: pip install -e '.[import-huggingface]'"
transformers: Any = pytest.importorskip("transformers", reason=INSTALL)
TEXTS = ("a fine film", "it drags on and on", "the worst film of the year", "what a wonderful cast", "not bad at all")
POSITIONS = 64  # tokens of a text
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
DEBERTA = {  # as version 3's
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 32,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}
OWN: dict[str, dict[str, Any]] = {
    "DebertaV2": SIZES | DEBERTA,
    "DistilBert": DISTIL,
    "Albert": SIZES | {"embedding_size": 16},
    "T5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
}
EMOTIONS = {0: "anger", 1: "joy", 2: "no feeling"}


def wordpiece() -> Tokenizer:
    """A tokenizer as BERT's, whose padding is 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=marks))
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_pairs() -> Tokenizer:
    """A tokenizer as RoBERTa's: of bytes, whose padding is 1, and whose 0 stands at each start."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=marks, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def pieces() -> Tokenizer:
    """A tokenizer as DeBERTa's of version 2: likely pieces, in which spaces count."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    marks = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=100, special_tokens=marks, unk_token="[UNK]")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def ended_pieces() -> Tokenizer:
    """A tokenizer as T5's: likely pieces, and a mark at the end alone."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=100, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B:1 </s>:1", [("</s>", 1)])
    return tokenizer


BERT_MARKS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_MARKS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
}
KINDS: dict[str, tuple[Any, dict[str, str]]] = {
    "Bert": (wordpiece, BERT_MARKS),
    "DistilBert": (wordpiece, BERT_MARKS),
    "Electra": (wordpiece, BERT_MARKS),
    "Roberta": (byte_pairs, ROBERTA_MARKS),
    "XLMRoberta": (byte_pairs, ROBERTA_MARKS),
    "MPNet": (byte_pairs, ROBERTA_MARKS),
    "DebertaV2": (pieces, BERT_MARKS),
    "Albert": (pieces, BERT_MARKS),
    "ModernBert": (byte_pairs, ROBERTA_MARKS),
    "T5": (ended_pieces, {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}),
}
OFFSET = {"Roberta": 2, "XLMRoberta": 2, "MPNet": 2}  # positions that no token has


def save_sentences(
    folder: Path,
    kind: str,
    modes: dict[str, Any],
    normalize: bool,
    most: int,
    layers: Sequence[tuple[nn.Linear, str]] = (),
) -> Path:
    """Write a folder of sentence-transformers.

    Args:
        modes: content of the pooling's configuration.
        most: tokens of a text.
        layers: of Dense behind the pooling, each with the class of its activation function.
    """
    save(folder, kind, "EncoderModel" if kind == "T5" else "Model")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | modes))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": most, "do_lower_case": False}))
    paths = ["", "1_Pooling"]
    for linear, activation in layers:
        paths.append(f"{len(paths)}_Dense")
        save_dense(folder / paths[-1], linear, activation)
    paths += [f"{len(paths)}_Normalize"] if normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{path[2:] or 'Transformer'}"}
        for i, path in enumerate(paths)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def save_dense(folder: Path, linear: nn.Linear, activation: str) -> None:
    """Write a layer as the module Dense does: with a bias into the older file of weights, else into the newer."""
    folder.mkdir()
    config: dict[str, Any] = {"in_features": linear.in_features, "out_features": linear.out_features}
    config |= {"bias": linear.bias is not None, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config))
    from safetensors.torch import save_file

    weights = {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    if linear.bias is not None:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")


def save(folder: Path, kind: str, head: str, most: int | None = None, **settings: Any) -> Path:
    """Write a model of texts with its tokenizer.

    Args:
        kind: a key of ``KINDS``.
        head: end of the class's name, such as ``ForSequenceClassification``.
        most: tokens of a text that the tokenizer says; None for none.
        settings: of the model's configuration.
    """
    make, marks = KINDS[kind]
    own = {"model_max_length": most} if most else {}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=make(), **marks, **own)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS + OFFSET.get(kind, 0),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        **OWN.get(kind, SIZES),
        **settings,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}{head}")(config)
    with torch.no_grad():  # answers that differ from text to text, as trained ones do
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


PROCESSOR: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 48},
    "resample": 2,  # bilinear
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}
VIT = SIZES | {"image_size": (32, 48), "patch_size": 8}
PICTURE_SIZES: dict[str, dict[str, Any]] = {
    "ViT": VIT,
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "ConvNext": {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "patch_size": 4},
}


def save_pictures(folder: Path, kind: str, processor: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Write a classifier of pictures of 48 x 32 pixels; ``processor`` changes the content of its processor's file."""
    config = getattr(transformers, f"{kind}Config")(**PICTURE_SIZES[kind], **settings)
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForImageClassification")(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | (processor or {})))
    return folder
