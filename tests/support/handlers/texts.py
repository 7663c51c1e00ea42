"""A model of texts with a small tokenizer of the tests' own: its words are one token each, others fall into letters."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from handlers.contract import TensorSpec
from handlers.formats.text import TextCodec
from handlers.formats.tokens import TextTokenizer
from handlers.handler import ModelHandler
from tests.support.handlers.models import MAX_ROWS, Formula, contract

REVIEWS = contract(TensorSpec("text", "BYTES"), name="reviews", labels=("bad", "good"))
LONGEST = 8  # tokens, the marks of start and end among them
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("good", "bad", "film")


def settings(longest: int | None = LONGEST) -> bytes:
    """A ``tokenizer.json``; None for one that cuts nothing off."""
    vocabulary = [*MARKS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS), "[", "]", "."]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(mark, vocabulary.index(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.add_special_tokens(list(MARKS))
    if longest:
        tokenizer.enable_truncation(longest)
    return tokenizer.to_str().encode()


def codec() -> TextCodec:
    return TextCodec(REVIEWS, MAX_ROWS, TextTokenizer(settings()))


def serve() -> ModelHandler:
    return ModelHandler(REVIEWS, Formula(REVIEWS), codec())
