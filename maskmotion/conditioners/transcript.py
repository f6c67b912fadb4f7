"""Which words are spoken, as learned or given vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Conditioner
from maskmotion.types import Batch, Condition


class Transcript(Conditioner):
    """A vector for the word of each frame, from batch.labels["words"]; zeros where nobody speaks.

    Words share learned vectors when their ids fall into the same bucket, so any transcript in any language has vectors
    and no vocabulary file is needed. With `vectors`, words of that file have their own and the buckets are for all other
    words. A batch without words gives zeros: a transcript is never required.

    Args:
        dim: channels C; that of the file, where there is one.
        buckets: number of learned word vectors.
        vectors: a fastText or word2vec text file (`.vec`). What it holds is saved with the model, so that a saved model
            loads without it.
        learned: False keeps the file's vectors as they are.
    """

    ids: Tensor

    def __init__(self, dim: int = 64, buckets: int = 4096, vectors: str | None = None, learned: bool = True) -> None:
        super().__init__()
        if dim < 1 or buckets < 1:
            raise ValueError(f"a word table needs dim >= 1 and buckets >= 1, got dim={dim}, buckets={buckets}")
        self.dim, self.buckets, self.vectors = dim, buckets, vectors
        self.table = nn.Embedding(buckets + 1, dim, padding_idx=0)
        ids, rows = torch.zeros(0, dtype=torch.long), torch.zeros(0, dim)
        if vectors is not None and Path(vectors).is_file():
            ids, rows = _sorted_vectors(vectors, dim)
        self.register_buffer("ids", ids)  # ascending
        self.words = nn.Parameter(rows, requires_grad=learned)

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, dim], zero in silent and padded frames. FileNotFoundError when the given file was not there."""
        words = batch.labels.get("words", torch.zeros_like(batch.valid, dtype=torch.long))
        silent = (words == 0) | ~batch.valid
        features = self.table(torch.where(silent, 0, words % self.buckets + 1))
        if self.vectors is None:
            return Condition(features, batch.valid)
        if not len(self.ids):
            raise FileNotFoundError(f"no word vectors at {self.vectors}: give the file that the recipe names")
        place = torch.searchsorted(self.ids, words).clamp(max=len(self.ids) - 1)
        known = (self.ids[place] == words) & ~silent
        return Condition(torch.where(known[..., None], self.words[place], features), batch.valid)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A saved model brings its word vectors along, whether or not their file is at hand."""
        saved = state_dict.get(f"{prefix}ids")
        if saved is not None and self.vectors is not None and len(saved) != len(self.ids):
            self.ids = torch.zeros_like(saved)
            self.words = nn.Parameter(torch.zeros(len(saved), self.dim), self.words.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _sorted_vectors(path: str, dim: int) -> tuple[Tensor, Tensor]:
    """Ids of a file's words in ascending order, and their vectors; of words that share an id the first counts."""
    from maskmotion.data.textgrid import word_id
    from maskmotion.data.word_vectors import read_vectors

    words, rows = read_vectors(path)
    if rows.shape[1] != dim:
        raise ValueError(f"{path} has vectors of {rows.shape[1]} numbers; set the conditioner's dim to that, got {dim}")
    first = {word_id(word): number for number, word in reversed(list(enumerate(words)))}
    ids = sorted(first)
    return torch.tensor(ids), rows[[first[one] for one in ids]]
