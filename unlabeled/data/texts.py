"""Text: documents as pieces of whole sentences, in tokens of a vocabulary made from them."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
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
SUFFIXES = (".txt", ".md", ".rst")
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
        """Return "train" or "test"."""
        splits = _read(self)[1]
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
    """Pieces in memory."""

    def __init__(self, ids: Tensor, begins: Tensor, sentence: Tensor, label: Tensor | None) -> None:
        self.ids, self.begins, self.sentence, self.label = ids, begins, sentence, label

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
    rows: list[tuple[list[int], list[bool], list[int], int | None]] = []
    for document, parts in zip(documents, split, strict=True):
        ids: list[int] = []
        begins: list[bool] = []
        number: list[int] = []
        count = 0
        for _ in parts:
            code = next(encoded)
            own = code.ids[: most // 2]
            words = code.word_ids[: most // 2]
            if len(ids) + len(own) > most:
                if count > 1:
                    rows.append((ids, begins, number, document.label))
                ids, begins, number, count = [], [], [], 0
            ids = ids + own
            first = [i == 0 or words[i] != words[i - 1] for i in range(len(own))]
            begins, number = begins + first, number + [count] * len(own)
            count += bool(own)
        if count > 1:
            rows.append((ids, begins, number, document.label))
    shape = (len(rows), most)
    table = torch.zeros(shape, dtype=torch.int64)
    starts, order = torch.zeros(shape, dtype=torch.bool), torch.full(shape, -1)
    for place, (ids, begins, number, _) in enumerate(rows):
        table[place, : len(ids)] = torch.tensor(ids)
        starts[place, : len(ids)] = torch.tensor(begins)
        order[place, : len(ids)] = torch.tensor(number)
    known = [row[3] for row in rows]
    label = None if any(each is None for each in known) else torch.tensor(known)
    return Pieces(table, starts, order, label)


@dataclass(frozen=True)
class TextFiles(TextSource):
    """A text file, whose paragraphs are documents, or a folder of .txt, .md and .rst files.

    A folder of folders labels each file by the folder at the top. Files are UTF-8; bytes that are
    not are replaced.

    Args:
        path: the file or folder.
        vocabulary_size: entries at most.
        length: tokens of a piece.

    Raises:
        FileNotFoundError: no such path, at the first use.
        ValueError: no text.
    """

    path: str
    vocabulary_size: int = 4096
    length: int = 64

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return Path(self.path).resolve().name

    @property
    def sizes(self) -> tuple[int, int]:
        """As given."""
        return self.vocabulary_size, self.length

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The folders at the top, where every file is in one."""
        return _documents(self.path)[1]

    @property
    def documents(self) -> Sequence[Document]:
        """Paragraphs of a file, or files."""
        return _documents(self.path)[0]


def list_texts(folder: str) -> list[str]:
    """Return the text files below a folder, as sorted relative paths."""
    return sorted(
        os.path.relpath(os.path.join(place, file), folder)
        for place, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(SUFFIXES)
    )


@lru_cache(maxsize=4)
def _documents(path: str) -> tuple[list[Document], tuple[str, ...] | None]:
    if os.path.isfile(path):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        if not parts:
            raise ValueError(f"{path} has no text")
        return [Document(str(number), part) for number, part in enumerate(parts)], None
    if not os.path.isdir(path):
        raise FileNotFoundError(f"{path} does not exist: give a text file or a folder of them")
    files = list_texts(path)
    if not files:
        raise ValueError(f"{path} holds no text files: known are {' '.join(SUFFIXES)}")
    tops = [file.split(os.sep, 1)[0] if os.sep in file else "" for file in files]
    names = tuple(sorted(set(tops)))
    labeled = "" not in tops and len(names) > 1
    found = [
        Document(
            file,
            (Path(path) / file).read_text(encoding="utf-8", errors="replace"),
            names.index(top) if labeled else None,
        )
        for file, top in zip(files, tops, strict=True)
    ]
    return found, names if labeled else None
