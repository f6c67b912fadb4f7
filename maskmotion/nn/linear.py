"""Linear layers that take oneDNN's matrix product on CPUs where no gradient is wanted."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.shapes import Float

# The product that torch's own compiler calls. For float32 torch sends `F.linear` to MKL, which on AMD's processors runs
# at half the rate of oneDNN; without the operator nothing changes but the time.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def linear(
    x: Float[Tensor, "*any C"], weight: Float[Tensor, "E C"], bias: Float[Tensor, " E"], slope: float = 1.0
) -> Float[Tensor, "*any E"]:
    """The product x @ weight.T + bias, and below zero times `slope`: 1 is linear, 0 a rectifier, between them a leaky one."""
    if _ONEDNN is not None and _plain_cpu(x, weight):
        after, scalars = ("none", []) if slope == 1 else ("relu", []) if slope == 0 else ("leaky_relu", [slope])
        return _ONEDNN(x.contiguous(), weight, bias, after, scalars, "")
    y = F.linear(x, weight, bias)
    return y if slope == 1 else F.leaky_relu(y, slope)


class Linear(nn.Linear):
    """`nn.Linear` with `linear` inside. slope: of what follows it below zero, as there."""

    def __init__(self, dim: int, out: int, slope: float = 1.0) -> None:
        super().__init__(dim, out)
        self.slope = slope

    def forward(self, x: Float[Tensor, "*any C"]) -> Float[Tensor, "*any E"]:
        """[..., dim] -> [..., out]."""
        return linear(x, self.weight, self.bias, self.slope)


class Mlp(nn.Module):
    """Linear, leaky rectifier, linear.

    Args:
        dim: channels in. hidden: between. out: channels out. slope: of the rectifier below zero.
    """

    def __init__(self, dim: int, hidden: int, out: int, slope: float) -> None:
        super().__init__()
        self.enter, self.leave = Linear(dim, hidden, slope), Linear(hidden, out)

    def forward(self, x: Float[Tensor, "*any C"]) -> Float[Tensor, "*any E"]:
        """[..., dim] -> [..., out]."""
        return self.leave(self.enter(x))


def _plain_cpu(x: Tensor, weight: Tensor) -> bool:
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and not learns and not torch.is_autocast_enabled("cpu")
