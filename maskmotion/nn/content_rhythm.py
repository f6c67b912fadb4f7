"""Speech as EMAGE hears it: a temporal convolutional network over rhythm, and content-rhythm attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.convolution import Conv, ResidualConv
from maskmotion.shapes import Bool, Float

DILATIONS = (1, 2, 4)


class ContentRhythm(nn.Module):
    """Rhythm through a TCN, content through a linear map, merged frame by frame and channel by channel (EMAGE, eq. 5).

    f = a * rhythm + (1 - a) * content, a = softmax of a two-layer MLP of both. (The release has one linear layer.)

    Args:
        rhythm: channels of the rhythm features. content: channels of the word features; 0: there are no words, and f is
            the rhythm alone. dim: C. attention: False merges by adding, as the baseline of EMAGE's Table 6 does.
    """

    def __init__(self, rhythm: int, content: int, dim: int, attention: bool = True) -> None:
        super().__init__()
        self.enter = Conv(rhythm, dim, 5)
        self.blocks = nn.ModuleList(ResidualConv(dim, dilation) for dilation in DILATIONS)
        self.content = nn.Linear(content, dim) if content else None
        merges = bool(content) and attention
        self.gate = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, 2 * dim)) if merges else None

    def forward(
        self, rhythm: Float[Tensor, "B T R"], content: Float[Tensor, "B T W"] | None, valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T C"]:
        """Features of both; padding never changes what valid frames become."""
        heard = F.relu(self.enter(rhythm, valid))
        for block in self.blocks:
            heard = block(heard, valid)
        if self.content is None:
            return heard
        assert content is not None
        said = self.content(content)
        if self.gate is None:
            return heard + said
        share = self.gate(torch.cat([heard, said], dim=-1)).unflatten(-1, (2, -1)).softmax(dim=-2)
        return share[..., 0, :] * heard + share[..., 1, :] * said
