"""Linear layers that take oneDNN's matrix product on CPUs, forwards and backwards."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from maskmotion.shapes import Float

# The product that torch's own compiler calls. For float32 torch sends `F.linear` to MKL, which on AMD's processors runs
# at half the rate of oneDNN; without the operator nothing changes but the time.
_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def linear(
    x: Float[Tensor, "*any C"], weight: Float[Tensor, "E C"], bias: Float[Tensor, " E"], slope: float = 1.0
) -> Float[Tensor, "*any E"]:
    """The product x @ weight.T + bias, and below zero times `slope`: 1 is linear, 0 a rectifier, between them a leaky one."""
    if _ONEDNN is None or not _plain_cpu(x, weight):
        y = F.linear(x, weight, bias)
    elif torch.is_grad_enabled() and any(one.requires_grad for one in (x, weight, bias)):
        y = _Product.apply(x.contiguous(), weight, bias)
    else:
        after, scalars = ("none", []) if slope == 1 else ("relu", []) if slope == 0 else ("leaky_relu", [slope])
        return _ONEDNN(x.contiguous(), weight, bias, after, scalars, "")
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


class _Product(torch.autograd.Function):
    """x @ weight.T + bias, whose two backward products take oneDNN as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _ONEDNN(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        rows = gradient.flatten(0, -2)
        by_x, by_weight, by_bias = ctx.needs_input_grad
        return (
            _ONEDNN(gradient, weight.t(), None, "none", [], "") if by_x else None,
            _ONEDNN(rows.t(), x.flatten(0, -2).t(), None, "none", [], "") if by_weight else None,
            rows.sum(0) if by_bias else None,
        )


def _plain_cpu(x: Tensor, weight: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and x.numel() > 0 and x.ndim > 1 and not torch.is_autocast_enabled("cpu")
