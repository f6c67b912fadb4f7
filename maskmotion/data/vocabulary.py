"""Word vocabulary of the official text models, from JSON: `{"words": ["<PAD>", "<SOS>", "<EOS>", "<UNK>", "the", ...]}`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SPECIAL = ("<PAD>", "<SOS>", "<EOS>", "<UNK>")
PAD, SOS, EOS, UNK = range(4)


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of the rows of a word table, after the four special ones of EMAGE and SemTalk.

    Raises ValueError for words that do not begin with `SPECIAL`, or that stand twice.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIAL:
            raise ValueError(f"a vocabulary begins with {', '.join(SPECIAL)}, got {list(self.words[:4])}")
        if len(self._indices) < len(self.words):
            twice = next(word for index, word in enumerate(self.words) if self._indices[word] != index)
            raise ValueError(f"a vocabulary holds each word once, {twice!r} stands in it twice")

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read vocab.json; docs/convert.md has the lines that write one from the official vocab.pkl.

        Raises FileNotFoundError, and ValueError with the file's name for anything but such a vocabulary.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such vocabulary")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # no JSON, or no text at all
            raise ValueError(f"{path}: not a JSON file ({error})") from None
        if not isinstance(found, dict) or not isinstance(found.get("words"), list):
            raise ValueError(f'{path}: a vocabulary is {{"words": [...]}}, the words in the order of their index')
        if odd := [word for word in found["words"] if not isinstance(word, str)]:
            raise ValueError(f"{path}: a vocabulary holds words (text), in the order of their index; got {odd[0]!r}")
        try:
            return cls(tuple(found["words"]))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self.words)

    def index(self, word: str) -> int:
        """Row of a word; that of <UNK> for an unknown one."""
        return self._indices.get(word, UNK)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}
