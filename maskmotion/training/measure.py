"""What is followed on held-out clips while a stage trains: losses, and how well masks hit known meanings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskmotion.interfaces import Generator, MaskContext
from maskmotion.types import Batch

if TYPE_CHECKING:
    from maskmotion.data.windows import WindowDataset
    from maskmotion.training.gestures import GestureProbe

_FOLLOWED = ("lift", "auroc", "auroc_within")  # of the masker, at every validation


def measure_losses(network: nn.Module, progress: float, dataset: WindowDataset) -> dict[str, float]:
    """Mean of every named loss over a data set, and their sum as "loss"."""
    return _mean_losses(dataset, network, lambda batch: network(batch, teacher=network, progress=progress, stage=""))


def measure_tokenizer(network: nn.Module, progress: float, dataset: WindowDataset) -> dict[str, float]:
    """Mean of every named loss over a data set, their sum as "loss", and how the codes are used over all of it."""
    from maskmotion.evaluation.tokens import flat, use_of
    from maskmotion.tokenizers.body import BodyTokenizer

    assert isinstance(network, BodyTokenizer)
    values = measure_losses(network, progress, dataset)
    if not network.num_layers:
        return values
    codes: dict[str, list[torch.Tensor]] = {part: [] for part in network.parts}
    for batch in dataset.batches(64):
        batch = batch.to(network.mean.device)
        for part, tokens in network.encode(batch.motion, batch.valid).items():
            codes[part].append(tokens.codes.flatten(0, 1).cpu())
    return values | flat({part: use_of(torch.cat(rows), network.codebook_size) for part, rows in codes.items()})


def measure_generator(
    network: nn.Module,
    progress: float,
    dataset: WindowDataset,
    seed: int = 0,
    gestures: GestureProbe | None = None,
) -> dict[str, float]:
    """Losses under the generation mask, the same question for every strategy, and how its masks and scores find meaning.

    lift, auroc and auroc_within where meanings are known; `seed`: of the masker's chance. gestures: makes clips and adds
    which of the planted gestures they show.
    """
    assert isinstance(network, Generator)
    validate = getattr(network, "validate", None)
    if validate is None:
        return measure_losses(network, progress, dataset)
    values = _mean_losses(dataset, network, validate)
    quality = mask_quality(network, progress, dataset, seed=seed)
    if quality is not None:
        values |= {key: getattr(quality, key) for key in _FOLLOWED}
    return values if gestures is None else values | gestures(network)


def mask_quality(network: Generator, progress: float, dataset: WindowDataset, size: int = 32, seed: int = 0) -> Any:
    """How well the masker's frames hit the semantic ones, with this network as teacher; `seed`: of the masker's chance.

    None where that has no answer: without a masker, without labels, and where no frame is semantic.
    """
    return quality_of(network, progress, dataset.batches(size), seed)


def quality_of(network: Generator, progress: float, batches: Iterable[Batch], seed: int = 0) -> Any:
    """As `mask_quality`, on any batches of windows."""
    from maskmotion.evaluation.masks import MaskQuality, semantic_frames

    if network.masker is None:
        return None
    device = next(network.parameters()).device
    quality, rng = MaskQuality(), torch.Generator().manual_seed(seed)
    for batch in batches:
        if "semantic" not in batch.labels:
            return None
        batch = batch.to(device)
        with torch.no_grad():
            context = MaskContext(batch, network.condition(batch), progress, rng, network)
            state = rng.get_state()
            mask = network.masker(context)
            after = rng.get_state()
            rng.set_state(state)  # the scores of a random masker are then the ones that made its mask
            scores = network.masker.scores(context)
            rng.set_state(after)
        frames = mask if mask.ndim == 2 else mask.float().mean(-1) > 0.5
        frame_scores = scores if scores.ndim == 2 else scores.mean(-1)
        quality.update(
            frame_scores.cpu(), frames.cpu(), semantic_frames(batch.labels).cpu(), batch.valid.cpu(),
            batch.labels["distractor"].cpu() if "distractor" in batch.labels else None,
        )  # fmt: skip
    result = quality.result()
    return result if result.base > 0 else None


def _mean_losses(dataset: WindowDataset, network: nn.Module, losses_of: Any) -> dict[str, float]:
    device = next(network.parameters()).device
    sums: dict[str, float] = {}
    rows = 0
    for batch in dataset.batches(64):
        for name, value in losses_of(batch.to(device)).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(batch.motion)
        rows += len(batch.motion)
    means = {name: value / rows for name, value in sums.items()}
    return means | {"loss": sum(means.values())}
