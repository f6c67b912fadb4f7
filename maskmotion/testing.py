"""check(component): the contract of each kind, for the library's own components and for plug-in authors.

from maskmotion.testing import check
check(MyMasker)              # a class with defaults
check(MyMasker(ratio=0.7))   # or an instance
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
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.registry import kind_of, schema
from maskmotion.schedules import value_at
from maskmotion.types import Batch

FRAMES, ROWS, PADDED = 32, 3, 20  # the last row has 20 valid frames


class ContractError(AssertionError):
    """A component that breaks its interface; says which rule."""


def check(component: Any, **arguments: Any) -> None:
    """Check a Quantizer, Masker, Conditioner or Generator, class or instance, against its interface.

    Args:
        component: a class is constructed with its defaults and `arguments` (a generator also with a small body,
            conditioners and masker), after its constructor has been read as a recipe would.
        arguments: for a class whose defaults alone do not do.

    Raises ContractError that names the rule, TypeError for what is no component.
    """
    kind = kind_of(component)
    if inspect.isclass(component):
        cls: Any = component
        schema(cls)
        component = _build(kind, cls, arguments)
    checks: dict[str, Callable[[Any], None]] = {
        "quantizer": _check_quantizer,
        "masker": _check_masker,
        "conditioner": _check_conditioner,
        "generator": _check_generator,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checks[kind](component)


def example_batch(rows: int = ROWS, frames: int = FRAMES, seed: int = 0) -> Batch:
    """A batch of smooth random motion with speech-like noise, labels and one row with padding."""
    rng = torch.Generator().manual_seed(seed)
    rotvec = 0.2 * torch.randn(rows, 1, 55, 3, generator=rng) + 0.05 * torch.randn(rows, frames, 55, 3, generator=rng)
    motion = SMPLX.rest.repeat(rows, frames, 1)
    motion[..., :330] = axis_angle_to_6d(rotvec).flatten(2)
    motion[..., 337:] = torch.randn(rows, frames, 100, generator=rng)
    valid = torch.ones(rows, frames, dtype=torch.bool)
    valid[-1, PADDED * frames // FRAMES :] = False
    samples = round(frames * 16000 / 30)
    loudness = torch.rand(rows, frames, generator=rng).repeat_interleave(samples // frames + 1, dim=1)[:, :samples]
    return Batch(
        motion=motion,
        valid=valid,
        audio=0.3 * loudness * torch.randn(rows, samples, generator=rng),
        speaker=torch.arange(rows) % 2,
        labels={
            "semantic": (torch.rand(rows, frames, generator=rng) > 0.7).float(),
            "words": torch.randint(0, 5, (rows, frames), generator=rng) * 977,
        },
    )


def example_generator(cls: type | None = None, **arguments: Any) -> Generator:
    """A small untrained generator on all conditioners that need no weights of others; `cls` defaults to Tiny."""
    from maskmotion.conditioners import Mel, Rhythm, Speaker, Transcript
    from maskmotion.generators import Tiny
    from maskmotion.quantizers import RVQ
    from maskmotion.strategies import Random
    from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer

    body = BodyTokenizer(
        {
            part: PartTokenizer(columns, Dilated(len(columns), 8), RVQ(8, 16, 2))
            for part, columns in SMPLX.columns.items()
        }
    )
    batch = example_batch()
    body.set_statistics(batch.motion)
    body.train()(batch)  # puts the codebooks on data
    conditioners = {"mel": Mel(), "rhythm": Rhythm(), "transcript": Transcript(), "speaker": Speaker()}
    given = {"body": body, "conditioners": conditioners, "masker": Random(0.5), "seed_frames": 4}
    cls = cls or Tiny
    allowed = inspect.signature(cls).parameters
    built: Generator = cls(**{name: value for name, value in given.items() if name in allowed}, **arguments)
    return built.eval()


def _build(kind: str, cls: type, arguments: dict[str, Any]) -> Any:
    if kind == "generator":
        return example_generator(cls, **arguments)
    if kind == "quantizer" and "dim" not in arguments:
        arguments = {"dim": 8, **arguments}
    return cls(**arguments)


def _require(rule: str, holds: bool) -> None:
    if not holds:
        raise ContractError(rule)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=1e-4, rtol=1e-4)


def _check_state(module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in [*twin.parameters(), *twin.buffers()]:
            tensor.zero_()
    twin.load_state_dict(module.state_dict())
    pairs = zip([*module.parameters(), *module.buffers()], [*twin.parameters(), *twin.buffers()], strict=True)
    _require(
        "all state is saved: state_dict must restore every parameter and buffer", all(torch.equal(*p) for p in pairs)
    )


def _check_quantizer(quantizer: Quantizer) -> None:
    latents = torch.randn(2, 12, quantizer.dim)
    quantizer.train()(latents)
    quantizer.eval()
    held = latents.clone().requires_grad_()
    out = quantizer(held)
    layers = quantizer.num_layers
    _require("latents keep their shape [B, N, C]", out.latents.shape == latents.shape)
    _require("codes are int64 [B, N, Q]", out.codes.shape == (2, 12, layers) and out.codes.dtype == torch.int64)
    _require(
        "loss is a scalar, perplexity one number a layer", out.loss.ndim == 0 and out.perplexity.shape == (layers,)
    )
    _require("the straight-through gradient is one: latents must require a gradient", out.latents.requires_grad)
    out.latents.sum().backward()
    gradient = torch.zeros_like(latents) if held.grad is None else held.grad
    _require("the straight-through gradient is one", _same(gradient, torch.ones_like(latents)))
    again = quantizer(latents)
    _require(
        "evaluation is deterministic", torch.equal(again.codes, out.codes) and torch.equal(again.latents, out.latents)
    )
    if layers:
        inside = bool((out.codes >= 0).all() and (out.codes < quantizer.codebook_size).all())
        _require("codes lie in 0..K-1 in evaluation", inside)
        vectors = quantizer.embed(out.codes)
        _require("embed gives [B, N, Q, C]", vectors.shape == (2, 12, layers, quantizer.dim))
        _require("the code vectors' sum is the quantized latent", _same(vectors.sum(2), out.latents.detach()))
        _require("code -1 gives zeros", bool((quantizer.embed(torch.full_like(out.codes, -1)) == 0).all()))
    _check_state(quantizer)


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
    _check_state(masker)


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
    _check_state(conditioner)


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
    _check_state(generator)


def padding_replaced(batch: Batch) -> Batch:
    """The same batch with other values wherever there is padding."""
    pad = ~batch.valid
    audio = batch.audio
    if audio is not None:
        # the waveform's padding is silence by contract; only what frames say may differ
        audio = audio * nn.functional.interpolate(batch.valid[:, None].float(), audio.shape[1])[:, 0]
        batch = replace(batch, audio=audio)
    labels = {name: torch.where(pad, torch.ones_like(v), v) for name, v in batch.labels.items()}
    return replace(batch, motion=torch.where(pad[..., None], batch.motion + 3.0, batch.motion), labels=labels)
