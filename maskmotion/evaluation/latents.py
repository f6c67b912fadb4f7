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
        real = generator.body.token_mask(batch.valid)
        meaning = generator.body.token_mask(semantic_frames(batch.labels) & batch.valid)
        meaning[:, : generator.seed_frames // generator.body.downsample] = False
        for part, target in targets.items():
            wanted[part].append(target.latents[real].cpu())
            errors[part].append((prediction.latents[part].sum(2) - target.latents)[meaning].square().mean(-1).cpu())
    shares = [torch.cat(errors[part]).mean() / torch.cat(wanted[part]).var(0).mean() for part in wanted]
    return float(torch.stack(shares).mean())
