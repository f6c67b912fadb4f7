"""check(component): the contract of each kind, for the library's own components and for plug-in authors.

from maskmotion.testing import check
check(MyMasker)              # a class with defaults
check(MyMasker(ratio=0.7))   # or an instance
check(MyNetwork)             # quantizers, conditioners, generators and autoencoders as well
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Conditioner, Generator, MaskContext, Masker, Quantizer
from maskmotion.motion.layout import SMPLX
from maskmotion.registry import kind_of, schema
from maskmotion.schedules import value_at
from maskmotion.testing_examples import PADDED, example_batch, example_generator, padding_replaced
from maskmotion.tokenizers.autoencoder import Autoencoder
from maskmotion.tokenizers.pieces import in_pieces
from maskmotion.types import Batch


class ContractError(AssertionError):
    """A component that breaks its interface; says which rule."""


def check(component: Any, **arguments: Any) -> None:
    """Check a Quantizer, Masker, Conditioner, Generator or Autoencoder, class or instance, against its interface.

    Args:
        component: a class is constructed with its defaults and `arguments` (a generator also with a small body,
            conditioners and masker), after its constructor has been read as a recipe would.
        arguments: for a class whose defaults alone do not do. An autoencoder is checked at dim=12 and width=8: say here
            what an instance was built with.

    Raises ContractError that names the rule, TypeError for what is no component.
    """
    kind = kind_of(component)
    if kind == "autoencoder":
        arguments = {"dim": 12, "width": 8, **arguments}
    checks: dict[str, Callable[[Any], None]] = {
        "quantizer": _check_quantizer,
        "masker": _check_masker,
        "conditioner": _check_conditioner,
        "generator": _check_generator,
        "autoencoder": lambda network: _check_autoencoder(network, arguments["dim"], arguments["width"]),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if inspect.isclass(component):
            cls: Any = component
            schema(cls)
            twin, component = _build(kind, cls, arguments), _build(kind, cls, arguments)
        else:
            twin = copy.deepcopy(component)
        checks[kind](component)
        _check_state(component, twin)


def _build(kind: str, cls: type, arguments: dict[str, Any]) -> Any:
    if kind == "generator":
        return example_generator(cls, **arguments)
    if kind == "quantizer" and "dim" not in arguments:
        arguments = {"dim": 8, **arguments}
    if kind == "conditioner" and "body" in getattr(cls, "given", ()):
        arguments = {"body": example_generator().body, **arguments}
    return cls(**arguments)


def _require(rule: str, holds: bool) -> None:
    if not holds:
        raise ContractError(rule)


def _same(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=tolerance, rtol=tolerance)


def _check_state(module: nn.Module, twin: nn.Module) -> None:
    """`twin`: another one, built anew or copied before the checks have trained `module`."""
    for saved in twin.state_dict().values():
        saved.zero_()
    twin.load_state_dict(module.state_dict())
    pairs = zip([*module.parameters(), *module.buffers()], [*twin.parameters(), *twin.buffers()], strict=True)
    rule = "all state is saved: state_dict must restore every parameter, and every buffer that chance or training sets"
    _require(rule, all(torch.equal(*pair) for pair in pairs))


def _check_quantizer(quantizer: Quantizer) -> None:
    latents = torch.randn(2, 12, quantizer.dim)
    quantizer.train()(latents)
    _check_gradient(quantizer, latents)
    out = quantizer.eval()(latents)
    layers = quantizer.num_layers
    _require("latents keep their shape [B, N, C]", out.latents.shape == latents.shape)
    _require("codes are int64 [B, N, Q]", out.codes.shape == (2, 12, layers) and out.codes.dtype == torch.int64)
    _require(
        "loss is a scalar, perplexity one number a layer", out.loss.ndim == 0 and out.perplexity.shape == (layers,)
    )
    again = quantizer(latents)
    _require(
        "evaluation is deterministic", torch.equal(again.codes, out.codes) and torch.equal(again.latents, out.latents)
    )
    if layers:
        inside = bool((out.codes >= 0).all() and (out.codes < quantizer.codebook_size).all())
        _require("codes lie in 0..K-1 in evaluation", inside)
        vectors = quantizer.embed(out.codes)
        _require("embed gives [B, N, Q, C]", vectors.shape == (2, 12, layers, quantizer.dim))
        _require("the code vectors' sum is the quantized latent", _same(vectors.sum(2), out.latents))
        _require("code -1 gives zeros", bool((quantizer.embed(torch.full_like(out.codes, -1)) == 0).all()))


def _check_gradient(quantizer: Quantizer, latents: Tensor) -> None:
    held, one = latents.clone().requires_grad_(), quantizer.straight_through
    out = quantizer.train(not one)(held).latents
    rule = "the straight-through gradient is one" if one else "the gradient reaches the latents and is finite"
    _require(f"{rule}: latents must require a gradient", out.requires_grad)
    out.sum().backward()
    gradient = torch.zeros_like(latents) if held.grad is None else held.grad
    reaches = bool(gradient.isfinite().all() and gradient.any())
    _require(rule, _same(gradient, torch.ones_like(latents)) if one else reaches)


def _check_masker(masker: Masker) -> None:
    generator = example_generator()
    batch = example_batch()

    def hide(seen: Batch, progress: float, seed: int = 0) -> Tensor:
        conditions = {name: one.detach() for name, one in generator.condition(seen).items()}
        rng = torch.Generator().manual_seed(seed)
        mask: Tensor = masker(MaskContext(seen, conditions, progress, rng, generator))
        return mask

    exact = type(masker).forward is Masker.forward or getattr(masker, "exact", False)
    for progress in (0.0, 0.5, 1.0):
        mask = hide(batch, progress)
        _require("a mask is bool, True = hidden", mask.dtype == torch.bool)
        full = SMPLX.expand(mask)  # raises for a shape that fits nothing
        _require("padding is never hidden", not bool(full[~batch.valid].any()))
        _require("a mask carries no gradient", not mask.requires_grad)
        ratio = value_at(masker.ratio, progress)
        units = mask.flatten(2).shape[2] if mask.ndim == 3 else 1
        wanted, count = ratio * batch.valid.sum(1) * units, mask.flatten(1).sum(1)
        slack = 1 if exact else 5 * (ratio * (1 - ratio) * batch.valid.sum(1) * units).sqrt() + 1
        _require(
            f"the mask ratio is honoured: wanted {wanted.tolist()} hidden a row at progress {progress}, got {count.tolist()}",
            bool(((count - wanted).abs() <= slack).all()),
        )
    _require("the same seed gives the same mask", torch.equal(hide(batch, 0.5), hide(batch, 0.5)))
    assert batch.audio is not None
    changed = replace(
        batch,
        motion=torch.cat([batch.motion[:1], batch.motion[1:].flip(1)]),
        audio=torch.cat([batch.audio[:1], batch.audio[1:].flip(1)]),
    )
    _require("rows are independent: a row's mask depends on its own window", _first(hide, batch, changed))


def _first(hide: Callable[[Batch, float], Tensor], one: Batch, other: Batch) -> bool:
    return torch.equal(hide(one, 0.5)[0], hide(other, 0.5)[0])


def _check_conditioner(conditioner: Conditioner) -> None:
    conditioner.eval()
    batch = example_batch()
    out = conditioner(batch)
    rows = len(batch.motion)
    _require("features are [B, S, dim]", out.features.ndim == 3 and out.features.shape[::2] == (rows, conditioner.dim))
    _require("valid is bool [B, S]", out.valid.shape == out.features.shape[:2] and out.valid.dtype == torch.bool)
    _require("features are finite", bool(out.features.isfinite().all()))
    _require("evaluation is deterministic", torch.equal(conditioner(batch).features, out.features))
    real = out.valid[..., None]
    other = conditioner(padding_replaced(batch))
    _require("what is padded never changes a row's result", _same(other.features * real, out.features * real))
    alone = conditioner(batch.rows(torch.tensor([0])))
    _require("rows are independent", _same(alone.features[0], out.features[0]))
    absent = conditioner.absent(batch)
    _require("absent() has the shape of the condition", absent.features.shape == out.features.shape)
    _require("losses() is a dict", isinstance(conditioner.losses(batch, out, {}), dict))


def _check_generator(generator: Generator) -> None:
    batch = example_batch()
    generator.train()
    losses = generator(batch, teacher=generator, progress=0.5, stage=generator.stages[0])
    _require("forward returns named losses", bool(losses) and all(isinstance(name, str) for name in losses))
    _require("every loss is a finite scalar", all(v.ndim == 0 and bool(v.isfinite()) for v in losses.values()))
    torch.stack(list(losses.values())).sum().backward()
    learned = [p for module in generator.trainable(generator.stages[0]) for p in module.parameters() if p.requires_grad]
    _require("the losses reach some parameter", any(p.grad is not None and bool(p.grad.any()) for p in learned))
    _require("the tokenizers stay frozen", all(p.grad is None for p in generator.body.parameters()))
    generator.zero_grad()
    generator.eval()
    hidden = SMPLX.expand(torch.arange(batch.motion.shape[1]).expand(len(batch.motion), -1) >= 4)
    out = generator.generate(batch, hidden).motion
    _require("generate gives motion [B, T, D]", out.shape == batch.motion.shape and bool(out.isfinite().all()))
    other = replace(batch, motion=torch.where(hidden, batch.motion + 1.0, batch.motion))
    _require("hidden values have no effect on what is generated", _same(generator.generate(other, hidden).motion, out))
    padded = generator.generate(padding_replaced(batch), hidden).motion
    real = batch.valid[..., None]
    # frames beside the border share tokens with padding, which no generator can know
    inner = real & (torch.arange(real.shape[1])[:, None] < PADDED - generator.body.downsample)
    _require("what is padded never changes a row's result", _same(padded * inner, out * inner))
    alone = generator.generate(batch.rows(torch.tensor([0])), hidden[:1]).motion
    _require("rows are independent of their batch mates", _same(alone[0], out[0]))


@torch.no_grad()
def _check_autoencoder(network: Autoencoder, dim: int, width: int) -> None:
    fold, reach = network.downsample, -(-network.encoder_reach // network.downsample)  # tokens
    half = 2 * max(reach, network.decoder_reach) + 3
    tokens = 2 * half + 2
    motion = torch.randn(2, tokens * fold, dim)
    with torch.enable_grad():
        network.train().decode(network.encode(motion)).sum().backward()
    learned = [p for p in network.parameters() if p.requires_grad]
    _require("the gradient reaches every parameter", all(p.grad is not None for p in learned))
    latents = network.eval().encode(motion)
    frames = network.decode(latents)
    _require("encode gives [B, T / downsample, width]", latents.shape == (2, tokens, width))
    _require("decode gives [B, N * downsample, dim]", frames.shape == motion.shape)
    _require("evaluation is deterministic", torch.equal(network.encode(motion), latents))
    valid = torch.arange(tokens * fold).expand(2, -1) < half * fold
    padded, alone = network.encode(motion, valid)[:, :half], network.encode(motion[:, : half * fold])
    _require("padding never changes valid tokens", _same(padded, alone))
    padded, alone = network.decode(latents, valid[:, ::fold])[:, : half * fold], network.decode(latents[:, :half])
    _require("padding never changes valid frames", _same(padded, alone))

    middle = tokens // 2
    own = slice(middle * fold, (middle + 1) * fold)
    seen = _reach(network.encode, motion, slice(middle, middle + 1), own)
    _require(f"no token sees further than encoder_reach, got {seen} frames", seen <= network.encoder_reach)
    seen = _reach(network.decode, latents, own, slice(middle, middle + 1))
    _require(f"no frame sees further than decoder_reach, got {seen} tokens", seen <= network.decoder_reach)

    def encode(read: slice) -> dict[str, Tensor]:
        return {"latents": network.encode(motion[:, read.start * fold : read.stop * fold])}

    def decode(read: slice) -> dict[str, Tensor]:
        return {"frames": network.decode(latents[:, read])}

    rule = "pieces that overlap by the reach give what the whole gives"
    _require(rule, _same(in_pieces(encode, tokens, 4, reach)["latents"], latents, 1e-5))
    _require(rule, _same(in_pieces(decode, tokens, 4, network.decoder_reach, fold)["frames"], frames, 1e-5))


@torch.enable_grad()
def _reach(function: Callable[[Tensor], Tensor], x: Tensor, of: slice, own: slice) -> int:
    """How many steps of x beyond `own` the result's steps `of` see."""
    held = x.clone().requires_grad_()
    function(held)[:, of].square().sum().backward()
    assert held.grad is not None
    seen = held.grad.any(dim=2).any(dim=0).nonzero()
    return max(own.start - int(seen.min()), int(seen.max()) + 1 - own.stop)
