"""The mini text models: a T5 and an mBART of small width, with SentencePiece tokenizers of their own.

Both are the real classes; only the numbers in their configurations are small. T5 knows English, mBART English and Russian.
"""

import io
import string
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from asum_lib.errors import choose
from asum_lib.paths import CHECKPOINTS

SENTINELS = 16  # T5's <extra_id_0> and so on: what stands for a span that was taken out
LANGUAGE_CODES = {"en": "en_XX", "ru": "ru_RU"}


@dataclass(frozen=True)
class TextRung:
    """Architecture and pre-training of a mini text model. `peak_lr` is the highest rate of its one-cycle schedule."""

    family: str
    width: int
    inner: int  # of the feed-forward layers
    layers: int  # in the encoder, and as many in the decoder
    heads: int
    pieces: int  # of the tokenizer, without special ones
    corpora: tuple[str, ...]  # source corpora, in turn
    steps: int
    peak_lr: float


RUNGS = {
    "t5": TextRung("t5", 128, 256, 2, 4, 2_000, ("howto-text-source",), steps=3_200, peak_lr=2e-3),
    "mbart": TextRung("mbart", 128, 256, 2, 4, 4_000, ("howto-text-source", "news-ru-source"), steps=3_200, peak_lr=2e-3),
}
MAX_POSITIONS = 512
SPACE = "▁"  # SentencePiece's mark of a word's beginning
LONGEST_PART = 8  # of a word, in letters
# What a text can be spelled with, whatever the corpora hold.
ALPHABET = (
    string.ascii_letters + string.digits + string.punctuation + "абвгдеёжзийклмнопрстуфхцчшщъыьэюя" + "АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ" + "«»—–№"
)


def checkpoint(model: str) -> Path:
    """Folder of a shipped mini text checkpoint."""
    return CHECKPOINTS / f"{choose('text model', model, RUNGS)}-mini"


def tokenizer(model: str, texts: Iterable[str]):
    """A `T5Tokenizer` or `MBart50Tokenizer` over pieces that SentencePiece's unigram algorithm (Kudo 2018) finds in `texts`."""
    from transformers import MBart50Tokenizer, T5Tokenizer

    pieces = _pieces(model, texts)
    if model == "t5":
        sentinels = [(f"<extra_id_{number}>", 0.0) for number in reversed(range(SENTINELS))]
        return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, *sentinels], extra_ids=SENTINELS)
    return MBart50Tokenizer(vocab=[("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *pieces])  # in SentencePiece's order, which it turns into its own


def untrained(model: str, tokens):
    """A randomly initialised rung for the tokenizer `tokens`, ready to train and to `generate`."""
    from transformers import MBartConfig, MBartForConditionalGeneration, T5Config, T5ForConditionalGeneration

    rung = RUNGS[model]
    if model == "t5":
        config = T5Config(
            vocab_size=len(tokens),
            d_model=rung.width,
            d_kv=rung.width // rung.heads,
            d_ff=rung.inner,
            num_layers=rung.layers,
            num_heads=rung.heads,
            dropout_rate=0.0,
            decoder_start_token_id=tokens.pad_token_id,
        )
        return T5ForConditionalGeneration(config)
    config = MBartConfig(
        vocab_size=len(tokens),
        d_model=rung.width,
        encoder_layers=rung.layers,
        decoder_layers=rung.layers,
        encoder_attention_heads=rung.heads,
        decoder_attention_heads=rung.heads,
        encoder_ffn_dim=rung.inner,
        decoder_ffn_dim=rung.inner,
        max_position_embeddings=MAX_POSITIONS,
        scale_embedding=True,
        dropout=0.0,
        decoder_start_token_id=tokens.eos_token_id,  # as mBART-50 starts; the language's own token comes next
        forced_eos_token_id=tokens.eos_token_id,
    )
    return MBartForConditionalGeneration(config)


def _pieces(model: str, texts: Iterable[str]) -> list[tuple[str, float]]:
    """(piece, score) as SentencePiece finds them, without its own special ones.

    Left to itself it takes as candidates what occurs in several *different* words, and so no whole word of a small vocabulary,
    however often it is written. It is given all words and parts of words with their counts instead.
    """
    import sentencepiece

    words = Counter(word for text in texts for word in text.split())
    seeds = Counter({f"{SPACE}{word}": count * (len(word) + 1) for word, count in words.items()})
    for word, count in words.items():
        word = SPACE + word
        for start in range(len(word)):
            for stop in range(start + 2, min(start + LONGEST_PART, len(word)) + 1):
                if stop - start < len(word):
                    seeds[word[start:stop]] += count * (stop - start)
    written = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "seeds.tsv"
        table.write_text("".join(f"{piece}\t{score}\n" for piece, score in seeds.most_common()), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(word for word, count in words.items() for _ in range(count)),
            model_writer=written,
            seed_sentencepieces_file=str(table),
            vocab_size=RUNGS[model].pieces,
            hard_vocab_limit=False,
            required_chars=ALPHABET,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
        )
    found = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    numbers = range(found.get_piece_size())
    return [(found.id_to_piece(n), found.get_score(n)) for n in numbers if not (found.is_unknown(n) or found.is_control(n))]
