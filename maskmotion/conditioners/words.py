"""Words as rows of a table that a vocabulary orders (the text models of EMAGE and SemTalk)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maskmotion.data.textgrid import word_id
from maskmotion.data.vocabulary import PAD, UNK
from maskmotion.interfaces import Conditioner
from maskmotion.types import Batch, Condition


class Words(Conditioner):
    """The vector of each frame's word, from batch.labels["words"]; zeros in batches without words.

    With a vocabulary (`set_vocabulary`), unknown words share the row of <UNK>, and silence has the row of the empty word
    where there is one, as EMAGE's releases read TextGrids. Without one, a word's number modulo `count` is its row.

    Args:
        dim: channels C. count: rows of the table.
    """

    ids: Tensor

    def __init__(self, dim: int = 300, count: int = 11195) -> None:
        super().__init__()
        if dim < 1 or count <= UNK:
            raise ValueError(f"a word table needs dim >= 1 and more than {UNK} rows, got dim={dim}, count={count}")
        self.dim, self.count = dim, count
        self.table = nn.Embedding(count, dim)
        self.register_buffer("ids", torch.zeros(count, dtype=torch.long))  # of the words, 0: none

    def set_vocabulary(self, words: Sequence[str] | None) -> None:
        """Words in the order of the rows; None: no word is known. ValueError for another number than there are rows."""
        if words is None:
            self.ids.fill_(-1)
            return
        if len(words) != self.count:
            raise ValueError(f"{len(words)} words for a table of {self.count} rows")
        self.ids.copy_(torch.tensor([word_id(word) for word in words]))
        self.ids[: UNK + 1] = 0  # the special ones are no words

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, dim], zero in padded frames."""
        words = batch.labels.get("words")
        if words is None:
            return Condition(self.table.weight.new_zeros(*batch.valid.shape, self.dim), batch.valid)
        rows = self._rows(words) if bool(self.ids.any()) else words % self.count
        rows = torch.where(batch.valid, rows, PAD)
        return Condition(torch.where(batch.valid[..., None], self.table(rows), 0.0), batch.valid)

    def _rows(self, words: Tensor) -> Tensor:
        ordered, order = self.ids.sort()
        wanted = torch.where(words == 0, word_id(""), words)
        place = torch.searchsorted(ordered, wanted).clamp(max=self.count - 1)
        return torch.where(ordered[place] == wanted, order[place], UNK)
