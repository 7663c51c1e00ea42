"""Reads and writes GGUF, the file format of llama.cpp's models (docs/gguf.md in the repository of ggml)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.contract import Array
from training.data import DataError

QUANTIZATIONS = {"Q8_0": 7, "F16": 1}  # by name, the value of the key general.file_type
CONTROL = 3  # type of the tokens that are no text

# What a file calls the members of ``generation_config.json`` (gguf's constants, "general.sampling").
SAMPLING = {
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}


@dataclass(frozen=True)
class Metadata:
    """The model as the keys of its file describe it; its architecture is Llama's.

    Attributes:
        context: length in tokens of the sequences in training.
        width: size of a token's vector.
        inner: width inside a layer's feed-forward part.
        kv_heads: heads of keys and values; several heads share one.
        rope_base: base of the rotary embedding's frequencies.
        epsilon: added under the root by the norms.
        tokens: the vocabulary, bytes written as printable characters.
        control: numbers of the tokens that are no text.
        merges: pairs of the byte-pair encoding, in the order of their application.
        split: name of the way in which a text is split before its bytes are merged; empty where the file says none.
        begin: number of the token that begins a text; None where there is none.
        end: number of the token that ends an answer.
        template: Jinja template of conversations.
    """

    context: int
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    rope_base: float
    epsilon: float
    tokens: tuple[str, ...]
    control: tuple[int, ...]
    merges: tuple[str, ...]
    split: str
    begin: int | None
    end: int
    template: str
    license: str


@dataclass(frozen=True)
class Header:
    """What the keys of any file say, whatever its architecture.

    Attributes:
        context: length in tokens of the sequences in training.
        template: Jinja template of conversations.
        sampling: its makers' defaults by their names in ``generation_config.json``.
    """

    architecture: str
    parameters: int
    context: int
    template: str
    license: str
    sampling: Mapping[str, Any]


def read_header(path: Path) -> Header:
    """Read what is known of any language model.

    Raises:
        DataError: it is no GGUF file, or lacks what serving a conversation needs.
    """
    reader = open_reader(path)

    def at(name: str, why: str) -> Any:
        if name not in reader.fields:
            raise DataError(f"{path} lacks the key {name}, {why}")
        return reader.fields[name].contents()

    architecture = str(at("general.architecture", "so that nobody knows what it is"))
    at("tokenizer.ggml.tokens", "the vocabulary: it is no language model, or its vocabulary lies in another file")
    license = reader.fields.get("general.license")
    return Header(
        architecture=architecture,
        parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        context=int(at(f"{architecture}.context_length", "the tokens that it was trained on")),
        template=str(at("tokenizer.chat_template", "by which conversations are written; an instruct model has one")),
        license=str(license.contents()) if license else "",
        sampling={
            name: reader.fields[f"general.sampling.{key}"].contents()
            for name, key in SAMPLING.items()
            if f"general.sampling.{key}" in reader.fields
        },
    )


def open_reader(path: Path) -> Any:
    """Open a file by ``gguf``'s reader.

    Raises:
        DataError: it is no GGUF file.
    """
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:  # IndexError: the file ends early
        raise DataError(f"{path} is no GGUF file: {error}") from error


def read_gguf(path: Path) -> tuple[Metadata, dict[str, Array]]:
    """Read a file's metadata and weights.

    Returns:
        Weights in float32 by their names in the file; a matrix is ``(outputs, inputs)``. The rows of queries' and
        keys' matrices are in the order of Hugging Face: the rotary embedding turns a head's first half against its
        second. In the file it turns two neighbours against each other.

    Raises:
        DataError: it is no GGUF file, or of another architecture.
    """
    from gguf.quants import dequantize

    reader = open_reader(path)
    metadata = _metadata(path, {name: field.contents for name, field in reader.fields.items()})
    weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    for name, values in weights.items():
        if heads := _rotated_heads(name, metadata):
            weights[name] = halved(values, heads)
    return metadata, weights


def write_gguf(source: Path, metadata: Metadata, weights: Mapping[str, Array], target: Path, quantization: str) -> None:
    """Write a file with the keys of ``source``.

    Args:
        metadata: the keys of ``source``.
        weights: as ``read_gguf`` returns them; matrices are quantized, vectors stay float32.
        quantization: a key of ``QUANTIZATIONS``. Q8_0 is blocks of 32 weights in 8 bits that share a scale in 16.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    writer = writer_like(open_reader(source), target, quantization)
    kind = GGMLQuantizationType[quantization]
    for name, values in weights.items():
        heads = _rotated_heads(name, metadata)
        stored = interleaved(values, heads) if heads else values
        if stored.ndim == 1:
            writer.add_tensor(name, stored)
        else:
            writer.add_tensor(name, quantize(stored, kind), raw_dtype=kind)
    finish(writer)


def requantize(source: Path, target: Path, kept: Collection[str]) -> list[str]:
    """Write a file of any architecture whose matrices are of some kinds only; the others become Q8_0.

    Args:
        target: not written where every matrix may stay as it is.
        kept: kinds that stay.

    Returns:
        The kinds that were replaced.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    reader = open_reader(source)
    matrices = [tensor for tensor in reader.tensors if len(tensor.shape) > 1]
    others = {tensor.name: tensor.tensor_type for tensor in matrices if tensor.tensor_type.name not in kept}
    if not others:
        return []
    writer = writer_like(reader, target, "Q8_0")
    for tensor in reader.tensors:
        if tensor.name not in others:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        values = dequantize(tensor.data, tensor.tensor_type)
        kind = GGMLQuantizationType.F16 if values.shape[-1] % 32 else GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    finish(writer)
    return sorted({kind.name for kind in others.values()})


def writer_like(reader: Any, target: Path, quantization: str) -> Any:
    """Begin a file with the keys of another."""
    from gguf import GGUFWriter, Keys

    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE):
            continue
        writer.add_key_value(name, field.contents(), field.types[0], *field.types[1:2])
    writer.add_file_type(QUANTIZATIONS[quantization])
    return writer


def finish(writer: Any) -> None:
    """Write what was added to a writer, and close its file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rotated_heads(name: str, metadata: Metadata) -> int:
    """Return a matrix's heads if a rotary embedding turns its rows, such as ``blk.0.attn_q.weight``; else 0."""
    heads = {"attn_q": metadata.heads, "attn_k": metadata.kv_heads}
    return heads.get(name.removesuffix(".weight").rpartition(".")[2], 0)


def halved(matrix: Array, heads: int) -> Array:
    """Reorder rows ``(heads * size, inputs)`` from pairs of neighbours to each head's first half before its second."""
    return matrix.reshape(heads, -1, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def interleaved(matrix: Array, heads: int) -> Array:
    """Invert ``halved``."""
    return matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def _metadata(path: Path, keys: Mapping[str, Any]) -> Metadata:
    def at(name: str) -> Any:
        if name not in keys:
            raise DataError(f"{path} lacks the key {name}")
        return keys[name]()

    architecture = at("general.architecture")
    if architecture != "llama":
        raise DataError(f"{path} is of the architecture {architecture}; only llama can be read")
    kinds = at("tokenizer.ggml.token_type")
    return Metadata(
        context=at("llama.context_length"),
        layers=at("llama.block_count"),
        width=at("llama.embedding_length"),
        inner=at("llama.feed_forward_length"),
        heads=at("llama.attention.head_count"),
        kv_heads=at("llama.attention.head_count_kv"),
        rope_base=at("llama.rope.freq_base"),
        epsilon=at("llama.attention.layer_norm_rms_epsilon"),
        tokens=tuple(at("tokenizer.ggml.tokens")),
        control=tuple(number for number, kind in enumerate(kinds) if kind == CONTROL),
        merges=tuple(at("tokenizer.ggml.merges")),
        split=at("tokenizer.ggml.pre") if "tokenizer.ggml.pre" in keys else "",
        begin=at("tokenizer.ggml.bos_token_id") if "tokenizer.ggml.bos_token_id" in keys else None,
        end=at("tokenizer.ggml.eos_token_id"),
        template=at("tokenizer.chat_template"),
        license=at("general.license"),
    )
