"""What maskers do on a clip: scores and hidden frames, window after window, ready to be drawn."""

from __future__ import annotations

import torch

from maskmotion.data.features import FeatureCache
from maskmotion.data.windows import WindowDataset
from maskmotion.interfaces import MaskContext
from maskmotion.model import Model
from maskmotion.shapes import Bool, Float
from maskmotion.types import Clip


@torch.no_grad()
def scores_and_hidden(
    model: Model, clip: Clip, progress: float = 1.0, seed: int = 0
) -> tuple[Float[torch.Tensor, " T"], Bool[torch.Tensor, " T"]]:
    """Frame scores and hidden frames of a model's masker on a clip, in windows without overlap, the model as teacher.

    Scores are standardised within each window, because attention and loss compare frames of one window only. Scores or
    masks of joints are averaged over the frame; a frame counts as hidden when half of it is. ValueError without masker.
    """
    generator = model.generator.eval()
    if generator.masker is None:
        raise ValueError(f"{model.recipe.name} has no masker, so it hides nothing")
    size = model.recipe.body.window
    data = WindowDataset([clip], size, size, model.extractors, FeatureCache(None), audio=model.reads_audio)
    batch = data.batch(list(range(len(data)))).to(model.device)
    rng = torch.Generator().manual_seed(seed)
    context = MaskContext(batch, generator.condition(batch), progress, rng, generator)
    state = rng.get_state()
    mask = generator.masker(context)
    rng.set_state(state)  # a random masker's scores are then the ones it used
    scores = generator.masker.scores(context)
    frames = scores if scores.ndim == 2 else scores.mean(-1)
    hidden = mask if mask.ndim == 2 else mask.float().mean(-1) >= 0.5
    frames = (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True).clamp(min=1e-6)
    placed, covered = torch.zeros(clip.frames), torch.zeros(clip.frames, dtype=torch.bool)
    for row, (_, first) in enumerate(batch.source):
        length = min(size, clip.frames - first)
        placed[first : first + length] = frames[row, :length].cpu()
        covered[first : first + length] = hidden[row, :length].cpu()
    return placed, covered
