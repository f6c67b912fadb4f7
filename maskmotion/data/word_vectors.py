"""Word vectors in the text format of fastText and word2vec (`.vec`)."""

from __future__ import annotations

from pathlib import Path

import torch

from maskmotion.shapes import Float


def read_vectors(path: str | Path) -> tuple[tuple[str, ...], Float[torch.Tensor, "words C"]]:
    """Words and their vectors: a first line "COUNT DIM", then a word and DIM numbers a line.

    Raises FileNotFoundError, and ValueError with the line that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of word vectors; fastText's .vec files are of this format")
    words: list[str] = []
    rows: list[list[float]] = []
    with path.open(encoding="utf-8", newline="\n") as file:
        head = file.readline().split()
        if len(head) != 2 or not all(part.isdigit() for part in head):
            raise ValueError(
                f"{path}: the first line of a .vec file is its number of words and of dimensions, got {head}"
            )
        count, dim = map(int, head)
        for number, line in enumerate(file, 2):
            word, *values = line.rstrip().split(" ")
            try:
                row = [float(value) for value in values]
            except ValueError:
                raise ValueError(f"{path}, line {number}: {word!r} is not followed by numbers alone") from None
            if len(row) != dim:
                raise ValueError(f"{path}, line {number}: {word!r} has {len(row)} numbers, the first line says {dim}")
            words.append(word)
            rows.append(row)
    if len(words) != count:
        raise ValueError(f"{path}: it holds {len(words)} words, its first line says {count}; it may be cut short")
    return tuple(words), torch.tensor(rows).view(count, dim)
