"""WordNet: glosses and their examples, short English texts in 45 categories."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unlabeled.data.debian import unpack
from unlabeled.data.images import cache_folder, log
from unlabeled.data.texts import Document, TextSource

PACKAGE = "wordnet-base"
PARTS = ("noun", "verb", "adj", "adv")
DEBIAN_FOLDER = Path("/usr/share/wordnet")
REMEDY = "run: unlabeled data get wordnet"
CATEGORIES = (
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact",
    "noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event",
    "noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object",
    "noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process",
    "noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time",
    "verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition",
    "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion",
    "verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather",
    "adj.ppl",
)  # fmt: skip
"""Names of the lexicographer files, by their numbers (lexnames(5WN))."""
_QUOTED_OR_NOT = re.compile(r'"[^"]*"?|[^;"]+')


@dataclass(frozen=True)
class WordNet(TextSource):
    """WordNet 3.0: a document is a gloss, its sentences are the definitions and the examples.

    Examples lose their quotation marks, which would tell the order of two segments without a word
    being read. Glosses of one part have no order and so no piece: about half remain. Labels are
    the lexicographer files, such as ``noun.food``.

    Args:
        root: a folder with data.noun, data.verb, data.adj and data.adv; by default wordnet in our
            cache folder, then Debian's.
        vocabulary_size: entries at most.
        length: tokens of a piece.

    Raises:
        FileNotFoundError: at the first use, if no place has the files.
    """

    root: str | None = None
    vocabulary_size: int = 4096
    length: int = 32

    @property
    def name(self) -> str:
        """``wordnet``."""
        return "wordnet"

    @property
    def sizes(self) -> tuple[int, int]:
        """As given."""
        return self.vocabulary_size, self.length

    @property
    def classes(self) -> tuple[str, ...]:
        """The 45 lexicographer files."""
        return CATEGORIES

    @property
    def documents(self) -> Sequence[Document]:
        """Glosses."""
        return _glosses(find(self.root))


@lru_cache(maxsize=2)
def _glosses(folder: Path) -> list[Document]:
    found = []
    for part in PARTS:
        path = folder / f"data.{part}"
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields, bar, gloss = line.partition(" | ")
            offset, category = (*fields.split(" ", 2), "", "")[:2]
            if not bar or not category.isdigit() or int(category) >= len(CATEGORIES):
                raise ValueError(f"{path} is no file of WordNet 3.0: delete it and {REMEDY}")
            text = "\n\n".join(parts_of(gloss))
            found.append(Document(f"{part}{offset}", text, int(category)))
    return found


def parts_of(gloss: str) -> list[str]:
    """Definitions and examples: what semicolons or quotation marks separate."""
    parts = (part.strip(' ";,-') for part in _QUOTED_OR_NOT.findall(gloss))
    return [part for part in parts if part]


def find(root: str | None = None) -> Path:
    """Return the folder of the four files, wherever it lies on this machine; no network.

    Raises:
        FileNotFoundError: no place has them; the message lists the places and the remedy.
    """
    given = [Path(root).expanduser()] if root is not None else []
    places = [*given, cache_folder("wordnet"), DEBIAN_FOLDER]
    for place in places:
        if all((place / f"data.{part}").is_file() for part in PARTS):
            return place
    raise FileNotFoundError(f"wordnet is not in {', '.join(map(str, places))}: {REMEDY}")


def get() -> Path:
    """Find the files or fetch them from Debian into our cache folder; return their folder.

    Raises:
        OSError: they cannot be had; the message says what was tried.
    """
    try:
        return find()
    except FileNotFoundError:
        log.warning("wordnet: fetching the Debian package %s", PACKAGE)
    target = cache_folder("wordnet")
    with tempfile.TemporaryDirectory(prefix="unlabeled-") as work:
        try:
            source = unpack((PACKAGE,), Path(work)) / DEBIAN_FOLDER.relative_to("/")
            target.mkdir(parents=True, exist_ok=True)
            for part in PARTS:
                copy = target / f"data.{part}.part{os.getpid()}"
                shutil.copyfile(source / f"data.{part}", copy)
                copy.replace(target / f"data.{part}")
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            text = " ".join(str(error).split())[-300:]
            raise OSError(
                f"wordnet cannot be had: {text}. Put data.noun, data.verb, data.adj and data.adv "
                f"into {target}"
            ) from error
    return target
