"""The linear layer that takes oneDNN's product: equal to torch's, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from maskmotion.nn import linear as module
from maskmotion.nn.linear import Linear, linear


def tensors(shape, out):
    rng = torch.Generator().manual_seed(0)
    drawn = (torch.randn(*size, generator=rng) for size in (shape, (out, shape[-1]), (out,)))
    return [one.requires_grad_() for one in drawn]


def outcome(function, x, weight, bias):
    y = function(x, weight, bias)
    return y, *torch.autograd.grad((y * torch.arange(y.shape[-1])).sum(), (x, weight, bias))


@pytest.mark.parametrize("shape", [(3, 5, 16), (7, 16), (2, 3, 4, 16), (0, 16)])
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.2])
def test_values_and_gradients_are_those_of_torch(shape, slope):
    x, weight, bias = tensors(shape, 6)
    mine = outcome(lambda *a: linear(*a, slope), x, weight, bias)
    theirs = outcome(lambda *a: F.leaky_relu(F.linear(*a), slope), x, weight, bias)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_a_view_that_is_not_contiguous_has_the_same_gradients():
    x, _, bias = tensors((4, 16, 5), 6)
    mine = outcome(lambda x, w, b: linear(x.mT, w[:, :16], b), x, weight_of(16), bias)
    theirs = outcome(lambda x, w, b: F.linear(x.mT, w[:, :16], b), x, weight_of(16), bias)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def weight_of(columns):
    return torch.randn(6, 2 * columns, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.parametrize("learns", [{"x"}, {"weight"}, {"bias"}, {"x", "bias"}, {"weight", "bias"}])
def test_what_is_frozen_gets_no_gradient_and_the_rest_does(learns):
    found = dict(zip(("x", "weight", "bias"), tensors((3, 16), 6), strict=True))
    for name, one in found.items():
        one.requires_grad_(name in learns)
    linear(**found).sum().backward()
    assert {name for name, one in found.items() if one.grad is not None} == learns


def test_a_gradient_of_a_gradient_is_refused_not_wrong(monkeypatch):
    if module._ONEDNN is None:
        pytest.skip("torch is built without oneDNN: its own product has second derivatives")
    x, weight, bias = tensors((3, 16), 6)
    (first,) = torch.autograd.grad(linear(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_without_the_operator_nothing_changes_but_the_time(monkeypatch):
    layer = Linear(16, 6, slope=0.2)
    x = torch.randn(3, 16)
    before = layer(x)
    monkeypatch.setattr(module, "_ONEDNN", None)
    torch.testing.assert_close(layer(x), before, rtol=1e-5, atol=1e-5)
