"""A language model's tokenizer, rebuilt from the vocabulary and the merges of its GGUF file."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from serving.documents import write_atomically
from training.data import DataError
from training.language.gguf_file import Metadata

SPLITS = ("smollm",)  # ways to split a text before its bytes are merged, as the key tokenizer.ggml.pre names them


def _bytes() -> dict[str, int]:
    """Map the printable characters of a byte-level vocabulary to their bytes (Radford et al. 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


BYTES = _bytes()


class LanguageTokenizer:
    """Byte-level byte-pair encoding (Radford et al. 2019), each digit a token of its own."""

    def __init__(self, metadata: Metadata) -> None:
        vocabulary = {token: number for number, token in enumerate(metadata.tokens)}
        merges = [(first, second) for first, _, second in (merge.partition(" ") for merge in metadata.merges)]
        self._tokens, self._control = metadata.tokens, frozenset(metadata.control)
        self._plain = _tokenizer(vocabulary, merges)
        self._special = _tokenizer(vocabulary, merges)
        self._special.add_special_tokens(
            [AddedToken(metadata.tokens[number], special=True, normalized=False) for number in metadata.control]
        )

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Split text into tokens; ``special`` for a template, whose control tokens are no plain text."""
        numbers: list[int] = (self._special if special else self._plain).encode(text, add_special_tokens=False).ids
        return numbers

    def text(self, tokens: list[int]) -> str:
        """Return the text of tokens, control tokens left out."""
        return str(self._special.decode(tokens, skip_special_tokens=True))

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none of a control token."""
        if token in self._control:
            return b""
        text = self._tokens[token]
        return bytes(BYTES[character] for character in text) if BYTES.keys() >= set(text) else text.encode()

    def to_json(self) -> str:
        """Return ``tokenizer.json`` of Hugging Face's tokenizers, in which names of control tokens are no text."""
        return str(self._special.to_str())


def write_tokenizer(metadata: Metadata, folder: Path) -> list[Path]:
    """Write a tokenizer as a folder that transformers reads, and so the clients that count a server's tokens.

    Args:
        folder: made where it is not there; files of these names are replaced.

    Returns:
        The files.

    Raises:
        DataError: the file's texts are split in a way that is not known here.
    """
    if metadata.split not in SPLITS:
        raise DataError(
            f"its texts are split as {metadata.split or 'nobody says'}, and only {', '.join(SPLITS)} is known here: "
            "take the tokenizer that the model was published with"
        )
    tokens = {"bos_token": metadata.begin, "eos_token": metadata.end}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{name: metadata.tokens[number] for name, number in tokens.items() if number is not None},
        "model_max_length": metadata.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": metadata.template,
    }
    contents = {
        "tokenizer.json": LanguageTokenizer(metadata).to_json(),
        "tokenizer_config.json": json.dumps(settings, ensure_ascii=False, indent=1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in contents]


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
