"""fit(): the one training loop, on accelerate, for tokenizers, root and every generator."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskmotion.config import Training
from maskmotion.progress import progress_bar
from maskmotion.training.checkpoint import pack, read_tensors, unpack, write_tensors
from maskmotion.training.ema import EMA
from maskmotion.types import Batch

if TYPE_CHECKING:
    from maskmotion.data.turns import Turns
    from maskmotion.data.windows import WindowDataset

OnStep = Callable[[int, Mapping[str, float]], None]
Measure = Callable[[nn.Module, float], Mapping[str, float]]


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; the last checkpoint is kept."""


def fit(
    model: nn.Module,
    dataset: WindowDataset | Turns,
    config: Training,
    *,
    seed: int = 0,
    stage: str = "generator",
    measure: Measure | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep = lambda step, losses: None,
    on_measure: OnStep = lambda step, values: None,
    on_observe: Callable[[int, Mapping[str, Tensor]], None] = lambda step, values: None,
    device: str = "auto",
    show: bool = True,
) -> nn.Module:
    """Train anything whose forward(batch, teacher=, progress=, stage=) returns named losses; their sum is minimised.

    Returns the averaged model (the model itself without `ema_decay`), as it was where `measure` said "loss" was lowest.

    Args:
        measure: of (averaged model, progress) -> named values, on data held out; "loss" chooses the best.
        checkpoint: file that is written on the way; where it exists, training goes on from it exactly: same losses, same
            weights as an unbroken run.
        on_step, on_measure: called with the step just done (from 1) and its named values.
        on_observe: the same with `model.observed`, numbers that its forward leaves there and that are no losses.
    """
    accelerator = _accelerator(config, device)
    torch.manual_seed(_stage_seed(seed, stage) + accelerator.process_index)
    model.to(accelerator.device).train()
    ema = EMA(model, config.ema_decay)
    optimizer = _optimizer(model, config)
    best, start = Best(checkpoint), 0
    if checkpoint is not None and checkpoint.exists():
        tensors, about = read_tensors(checkpoint)
        unpack(tensors, model, ema.model, optimizer, checkpoint)
        start, best.value = int(about["step"]), float(about["best"])
    wrapped, stepper = accelerator.prepare(model, optimizer)
    every = config.validate_every or max(1, config.steps // 8)
    with progress_bar(stage, config.steps, show and accelerator.is_main_process) as advance:
        for step in range(start, config.steps):
            losses = _step(accelerator, wrapped, stepper, ema, dataset, config, step, seed, stage)
            if accelerator.is_main_process:
                on_step(step + 1, losses)
                on_observe(step + 1, getattr(accelerator.unwrap_model(wrapped), "observed", {}))
            advance(step + 1, f"loss {sum(losses.values()):.3f}")
            if measure is not None and ((step + 1) % every == 0 or step + 1 == config.steps):
                values = _measured(measure, ema.model, (step + 1) / config.steps)
                if accelerator.is_main_process:
                    on_measure(step + 1, values)
                best.offer(values["loss"], ema.model, accelerator.is_main_process)
            due = (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps
            if checkpoint is not None and due and accelerator.is_main_process:
                plain = accelerator.unwrap_model(wrapped)
                write_tensors(checkpoint, pack(plain, ema.model, optimizer), {"step": step + 1, "best": best.value})
    accelerator.wait_for_everyone()  # the first process has written what all of them read now
    best.restore(ema.model)
    return ema.model.eval()


def _step(
    accelerator: Any,
    wrapped: nn.Module,
    optimizer: Any,
    ema: EMA,
    dataset: WindowDataset | Turns,
    config: Training,
    step: int,
    seed: int,
    stage: str,
) -> dict[str, float]:
    """One optimizer step over `accumulate` batches; returns the mean of each named loss."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * lr_share(step, config)
    progress = step / max(1, config.steps - 1)
    seen: dict[str, Tensor] = {}
    for part in range(config.accumulate):
        number = step * config.accumulate + part
        source, turn = _turn(dataset, number, config.batch_size, seed, stage)
        indices = window_indices(turn, config.batch_size, len(source), seed, stage)
        mine = _share(indices, accelerator.process_index, accelerator.num_processes)
        batch: Batch = source.batch(mine).to(accelerator.device)
        with accelerator.autocast():
            losses = wrapped(batch, teacher=ema.model, progress=progress, stage=stage)
        total = torch.stack(list(losses.values())).sum() / config.accumulate
        if not bool(total.isfinite()):
            worst = [name for name, loss in losses.items() if not bool(loss.isfinite())]
            raise TrainingDiverged(
                f"{stage}, step {step + 1}: loss {', '.join(worst)} is not a number; "
                f"lower training.{stage}.lr (now {config.lr:g}) or training.{stage}.grad_norm"
            )
        accelerator.backward(total)
        for name, loss in losses.items():
            seen[name] = seen.get(name, 0) + loss.detach() / config.accumulate
    accelerator.clip_grad_norm_(wrapped.parameters(), config.grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    ema.update(accelerator.unwrap_model(wrapped), step)
    return dict(zip(seen, torch.stack(list(seen.values())).tolist()))


class Best:
    """The weights with the lowest measured loss, kept beside the checkpoint (or in memory without one)."""

    def __init__(self, checkpoint: Path | None) -> None:
        self.value = math.inf
        self._file = None if checkpoint is None else checkpoint.with_name(f"best-{checkpoint.name}")
        self._memory: dict[str, Tensor] | None = None

    def offer(self, value: float, model: nn.Module, write: bool) -> None:
        """Keep these weights if they are better."""
        if value >= self.value:
            return
        self.value = value
        if self._file is None:
            self._memory = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        elif write:
            write_tensors(self._file, model.state_dict(), {"loss": value})

    def restore(self, model: nn.Module) -> None:
        """Put the best weights back, if there ever was a measurement."""
        if not math.isfinite(self.value):
            return
        kept = self._memory if self._file is None else read_tensors(self._file)[0]
        assert kept is not None
        model.load_state_dict(kept)


def lr_share(step: int, config: Training) -> float:
    """Learning rate of a step as a share of the full one: linear warm-up, then the decay."""
    warm = round(config.warmup * config.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    left = 1 - (step - warm) / max(1, config.steps - warm)
    return {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[config.decay]


def window_indices(number: int, size: int, windows: int, seed: int, stage: str) -> Sequence[int]:
    """The windows of batch `number`: a stream of shuffled epochs, a function of its arguments alone."""
    if windows == 0:
        raise ValueError("there is no window to train on: the training split is empty")
    first = number * size
    chosen: list[int] = []
    while len(chosen) < size:
        epoch, offset = divmod(first + len(chosen), windows)
        generator = torch.Generator().manual_seed(_stage_seed(seed, stage) * 100_003 + epoch)
        order = torch.randperm(windows, generator=generator)
        chosen += order[offset : offset + size - len(chosen)].tolist()
    return chosen


def _turn(dataset: WindowDataset | Turns, number: int, size: int, seed: int, stage: str) -> tuple[WindowDataset, int]:
    """The data set that batch `number` comes from, and which of its own batches it is."""
    from maskmotion.data.turns import Turns

    if not isinstance(dataset, Turns):
        return dataset, number
    return dataset.turn(number, size, _stage_seed(seed, stage) * 100_003)


def _share(indices: Sequence[int], process: int, processes: int) -> Sequence[int]:
    """A process's rows: one stretch of the batch, so that all processes' rows in a row are the batch of one process."""
    return indices[len(indices) * process // processes : len(indices) * (process + 1) // processes]


def _stage_seed(seed: int, stage: str) -> int:
    return (zlib.crc32(stage.encode()) + 7919 * seed) % 2**31


def _measured(measure: Measure, model: nn.Module, progress: float) -> dict[str, float]:
    """Measure in evaluation mode, with random numbers of its own, so that measuring changes nothing."""
    training = model.training
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        values = dict(measure(model.eval(), progress))
    model.train(training)
    return values


def _optimizer(model: nn.Module, config: Training) -> torch.optim.Optimizer:
    learning = [p for p in model.parameters() if p.requires_grad]
    if not learning:
        raise ValueError(f"{type(model).__name__} has nothing to learn: no parameter requires a gradient")
    return torch.optim.AdamW(learning, config.lr, config.betas, weight_decay=config.weight_decay, foreach=True)


def _accelerator(config: Training, device: str) -> Any:
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    if AcceleratorState().initialized if AcceleratorState._shared_state else False:
        AcceleratorState._reset_state()  # an earlier stage may have had another precision
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]  # L_sem and empty passes leave heads unused
    return Accelerator(mixed_precision=config.precision, cpu=device == "cpu", kwargs_handlers=handlers)
