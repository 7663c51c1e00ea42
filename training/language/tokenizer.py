"""A language model's tokenizer, rebuilt from the vocabulary and the merges of its GGUF file."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from training.language.gguf_file import Metadata


class LanguageTokenizer:
    """Byte-level byte-pair encoding (Radford et al. 2019), each digit a token of its own."""

    def __init__(self, metadata: Metadata) -> None:
        vocabulary = {token: number for number, token in enumerate(metadata.tokens)}
        merges = [(first, second) for first, _, second in (merge.partition(" ") for merge in metadata.merges)]
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


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
