"""Latent error where there is meaning: the most sensitive measure of what a masking strategy has taught."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.data.windows import WindowDataset
from maskmotion.evaluation.masks import semantic_frames
from maskmotion.generators.masked import MaskedGenerator
from maskmotion.interfaces import Generator


@torch.no_grad()
def semantic_latent_error(generator: Generator, dataset: WindowDataset, size: int = 64) -> float:
    """Squared error of predicted latents on semantic tokens under the generation mask, in units of the latents' variance.

    A ratio of sums over all windows for each part, averaged over parts; a token is semantic when any of its frames is,
    and seed tokens do not count. 1 is what the mean latent would score. NaN for a generator that is not masked, and
    without semantic tokens.
    """
    if not isinstance(generator, MaskedGenerator):
        return float("nan")
    device = next(generator.parameters()).device
    wanted: dict[str, list[Tensor]] = {part: [] for part in generator.body.parts}
    errors: dict[str, list[Tensor]] = {part: [] for part in generator.body.parts}
    for batch in dataset.batches(size):
        if "semantic" not in batch.labels:
            return float("nan")
        batch = batch.to(device)
        hidden = generator.generation_mask(batch.valid)
        prediction = generator.predict(batch.motion, hidden, batch.valid, generator.condition(batch))
        targets = generator.body.encode(batch.motion, batch.valid)
        real = _tokens(batch.valid, generator.body.downsample)
        meaning = _tokens(semantic_frames(batch.labels) & batch.valid, generator.body.downsample)
        meaning[:, : generator.seed_frames // generator.body.downsample] = False
        for part, target in targets.items():
            wanted[part].append(target.latents[real].cpu())
            errors[part].append((prediction.latents[part].sum(2) - target.latents)[meaning].square().mean(-1).cpu())
    shares = [torch.cat(errors[part]).mean() / torch.cat(wanted[part]).var(0).mean() for part in wanted]
    return float(torch.stack(shares).mean())


def _tokens(frames: Tensor, downsample: int) -> Tensor:
    """[B, T] -> [B, N]: tokens any of whose frames is True."""
    short = -frames.shape[1] % downsample
    return torch.nn.functional.pad(frames, (0, short)).unflatten(1, (-1, downsample)).any(-1)
