"""Text: documents as pieces of whole sentences, in tokens of a vocabulary made from them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from unlabeled.data.images import no_split
from unlabeled.data.source import DataSource
from unlabeled.extras import require
from unlabeled.method import Batch

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """What a text encoder takes: token numbers [B, length], padded with 0.

    Args:
        vocabulary: word pieces in the order of their numbers; the first five are `SPECIAL`, those
            that go on with a word begin with ``##``.
        length: tokens, with [CLS] and [SEP].
    """

    vocabulary: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        if self.vocabulary[: len(SPECIAL)] != SPECIAL or self.length < 8:
            raise ValueError(
                f"vocabulary begins with {self.vocabulary[:5]}, length is {self.length}: it begins "
                f"with {SPECIAL}, and a length is at least 8"
            )

    def __repr__(self) -> str:
        return f"TextSpec({len(self.vocabulary)} pieces, crc {self.mark:08x}, length {self.length})"

    @property
    def mark(self) -> int:
        """A checksum of the vocabulary."""
        return crc32("\n".join(self.vocabulary).encode())


class Document(NamedTuple):
    """A text, its key (which decides the split), and its class, if it has one."""

    key: str
    text: str
    label: int | None = None


class TextSource(DataSource):
    """A source of documents; a sample is a piece of one: two or more whole sentences.

    Raw batches hold ``views[0]`` token numbers [B, T], padded with 0, ``begins`` [B, T] bool (the
    first token of a word) and ``sentence`` [B, T], the number of its sentence in the piece. A
    document with crc32(key) % 5 == 0 is "test".
    """

    modality = "text"
    given: TextSpec | None = None
    """A vocabulary and length from elsewhere; None makes them from the training documents."""

    @property
    @abstractmethod
    def documents(self) -> Sequence[Document]:
        """All documents."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Entries of the vocabulary, and tokens of a piece with [CLS] and two [SEP]."""

    def spec(self) -> TextSpec:
        """Return the vocabulary of the training documents."""
        return _read(self)[0]

    def fit(self, spec: TextSpec) -> TextSource:
        """Return the same documents in the tokens of an encoder's vocabulary."""
        return self if spec == self.spec() else Tokenized(self, spec)

    def size(self, split: str) -> int:
        """Return the number of pieces."""
        return len(self.split(split))

    def split(self, name: str) -> Pieces:
        """Return "train" or "test", or "all": documents as they begin, one a sample."""
        splits = _read(self)[1]
        if name == "all":
            return _whole(self)
        if name not in splits:
            raise no_split(self.name, name, splits)
        return splits[name]

    def prepare(self, spec: TextSpec) -> Callable[[Batch], Tensor]:
        """Return the function to [CLS] piece [SEP], [B, length]."""
        return _Plain(spec.length)

    def raw(self, x: Tensor) -> Tensor:
        """[B, V]: how often each token is in a piece, at unit length: a bag of words."""
        counts = torch.zeros(len(x), len(self.spec().vocabulary))
        counts.scatter_add_(1, x, torch.ones_like(x, dtype=counts.dtype))
        counts[:, : len(SPECIAL)] = 0
        return torch.nn.functional.normalize(counts, dim=1)


@dataclass(frozen=True)
class _Plain:
    length: int

    def __call__(self, batch: Batch) -> Tensor:
        ids = batch["views"][0][:, : self.length - 2]
        full = torch.zeros(len(ids), self.length, dtype=torch.int64)
        count = (ids != PAD).sum(1)
        full[:, 0] = CLS
        full[:, 1 : 1 + ids.shape[1]] = ids
        full[torch.arange(len(ids)), count + 1] = SEP
        return full


@dataclass(frozen=True)
class Tokenized(TextSource):
    """Documents of a source in the tokens of another vocabulary; `TextSource.fit` makes it.

    Args:
        source: the documents.
        given: vocabulary and length.
    """

    source: TextSource
    given: TextSpec

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def sizes(self) -> tuple[int, int]:
        """Those of the vocabulary."""
        return len(self.given.vocabulary), self.given.length

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's."""
        return self.source.classes

    @property
    def documents(self) -> Sequence[Document]:
        """The source's."""
        return self.source.documents


class Pieces:
    """Pieces in memory, or the beginnings of documents, which have a path."""

    def __init__(
        self,
        ids: Tensor,
        begins: Tensor,
        sentence: Tensor,
        label: Tensor | None,
        path: list[str] | None = None,
    ) -> None:
        self.ids, self.begins, self.sentence, self.label = ids, begins, sentence, label
        self.path = path

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read pieces."""
        index = torch.as_tensor(places, dtype=torch.int64)
        batch = Batch(
            views=[self.ids[index]],
            index=index,
            begins=self.begins[index],
            sentence=self.sentence[index],
        )
        if self.label is not None:
            batch["label"] = self.label[index]
        if self.path is not None:
            batch["path"] = [self.path[place] for place in places]
        return batch


def sentences(text: str) -> list[str]:
    """Split where a sentence or a paragraph ends; blanks become one, empty ones go."""
    parts = (" ".join(part.split()) for part in _SENTENCE.split(text))
    return [part for part in parts if part]


@lru_cache(maxsize=4)
def _read(source: TextSource) -> tuple[TextSpec, dict[str, Pieces]]:
    size, length = source.sizes
    parts: dict[str, list[Document]] = {"train": [], "test": []}
    for document in source.documents:
        test = crc32(document.key.encode(errors="surrogateescape")) % 5 == 0
        parts["test" if test else "train"].append(document)
    if not parts["train"]:
        raise ValueError(f"{source.name} has no training documents: give more text")
    spec = source.given
    if spec is None:
        vocabulary = make_vocabulary((each.text for each in parts["train"]), size=size)
        spec = TextSpec(vocabulary=vocabulary, length=length)
    tokenizer = tokenizer_of(spec.vocabulary)
    splits = {name: _pieces(tokenizer, documents, length - 3) for name, documents in parts.items()}
    if not len(splits["train"]):
        raise ValueError(
            f"{source.name} has no document with two sentences that fit into {length - 3} tokens: "
            "give running text"
        )
    return spec, {name: pieces for name, pieces in splits.items() if len(pieces)}


@lru_cache(maxsize=4)
def _whole(source: TextSource) -> Pieces:
    """Every document, of one sentence too, cut after the tokens that an encoder takes."""
    spec, documents = source.spec(), list(source.documents)
    most = spec.length - 3
    encoded = tokenizer_of(spec.vocabulary).encode_batch(
        [each.text for each in documents], add_special_tokens=False
    )
    rows = [_Row(code.ids[:most], *_marks(code.word_ids[:most], 0)) for code in encoded]
    return _table(rows, [each.label for each in documents], most, [each.key for each in documents])


def make_vocabulary(texts: Iterable[str], *, size: int) -> tuple[str, ...]:
    """Word pieces of lower-cased text, the same for the same text (tokenizers' WordPiece).

    The trainer numbers the letters inside words in the order of a randomly seeded hash and breaks
    ties between pairs by these numbers, so that two processes would read the same text with two
    vocabularies; here the letters come numbered.
    """
    tokenizers = require("tokenizers", extra="text")
    tokenizer = _empty(tokenizers, None)
    cut, normal = tokenizer.pre_tokenizer.pre_tokenize_str, tokenizer.normalizer.normalize_str
    texts = [normal(text) for text in texts]
    words = {word for text in texts for word, _ in cut(text)}
    inside = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *inside], show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(texts, trainer)
    numbered = tokenizer.get_vocab()
    return tuple(sorted(numbered, key=numbered.__getitem__))


def tokenizer_of(vocabulary: tuple[str, ...]) -> Any:
    """Return the tokenizer of a vocabulary."""
    tokenizers = require("tokenizers", extra="text")
    return _empty(tokenizers, {piece: number for number, piece in enumerate(vocabulary)})


def _empty(tokenizers: Any, vocabulary: dict[str, int] | None) -> Any:
    models, normalizers = tokenizers.models, tokenizers.normalizers
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary or {}, unk_token=SPECIAL[UNKNOWN]))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return made


def _pieces(tokenizer: Any, documents: list[Document], most: int) -> Pieces:
    """Pack consecutive sentences of each document into pieces of at most so many tokens."""
    split = [sentences(each.text) for each in documents]
    flat = [part for parts in split for part in parts]
    encoded = iter(tokenizer.encode_batch(flat, add_special_tokens=False))
    rows: list[_Row] = []
    labels: list[int | None] = []
    for document, parts in zip(documents, split, strict=True):
        row, count = _Row([], [], []), 0
        for _ in parts:
            code = next(encoded)
            own = code.ids[: most // 2]
            if len(row.ids) + len(own) > most:
                if count > 1:
                    rows.append(row)
                    labels.append(document.label)
                row, count = _Row([], [], []), 0
            begins, sentence = _marks(code.word_ids[: most // 2], count)
            row = _Row(row.ids + own, row.begins + begins, row.sentence + sentence)
            count += bool(own)
        if count > 1:
            rows.append(row)
            labels.append(document.label)
    return _table(rows, labels, most)


class _Row(NamedTuple):
    """Tokens of a piece, which of them begin a word, and the number of their sentence."""

    ids: list[int]
    begins: list[bool]
    sentence: list[int]


def _marks(words: Sequence[int], sentence: int) -> tuple[list[bool], list[int]]:
    first = [place == 0 or word != words[place - 1] for place, word in enumerate(words)]
    return first, [sentence] * len(words)


def _table(
    rows: list[_Row], labels: list[int | None], most: int, path: list[str] | None = None
) -> Pieces:
    """Rows as padded tensors; no labels where one is missing."""
    shape = (len(rows), most)
    ids = torch.zeros(shape, dtype=torch.int64)
    begins, sentence = torch.zeros(shape, dtype=torch.bool), torch.full(shape, -1)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids, dtype=torch.int64)
        begins[place, : len(row.ids)] = torch.tensor(row.begins, dtype=torch.bool)
        sentence[place, : len(row.ids)] = torch.tensor(row.sentence, dtype=torch.int64)
    known = None if any(each is None for each in labels) else torch.tensor(labels)
    return Pieces(ids, begins, sentence, known, path)
