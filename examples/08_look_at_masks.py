"""Look at what every masking strategy hides: one picture, the speech and its meaning above the strategies' scores.

Needs the extra `viz` (pip install 'maskmotion[viz]'). Writes masks.png.
Takes about four minutes on one CPU core the first time, seconds after that; --quick takes seconds and its teacher knows nothing.
"""

import argparse

import torch

import maskmotion as mm
from maskmotion.data.windows import WindowDataset
from maskmotion.strategies import LossBased, Random, Span, SpeechQueried
from maskmotion.views.masks import plot_masks

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

data, run, recipe = "planted", "runs/tiny", mm.preset("tiny")
if arguments.quick:
    data, run = "planted-v1-small", "runs/quick"
    recipe = recipe.but({f"training.{stage}.steps": 4 for stage in recipe.training})
corpus = mm.open_corpus(data)
model = mm.train(recipe, corpus, run, show=True)

WINDOWS = 8  # side by side: maskers see one window at a time, as in training
batch = WindowDataset(corpus.validation, 64, 64, model.extractors).batch(range(WINDOWS))
with torch.no_grad():
    conditions = model.generator.condition(batch)

maskers = {
    "random": Random(ratio=0.4),
    "span": Span(ratio=0.4),
    "loss_based": LossBased(ratio=0.4),
    "speech_queried": SpeechQueried(ratio=0.4),
}


def context():
    """A fresh one for each question, so that scores and mask come from the same random numbers."""
    rng = torch.Generator().manual_seed(0)
    return mm.MaskContext(batch, conditions, progress=1.0, rng=rng, teacher=model.generator)


rows = {
    name: (masker.scores(context()).flatten(), masker(context()).flatten())  # [WINDOWS * 64] each
    for name, masker in maskers.items()
}

clip, frames = corpus.validation[0], WINDOWS * 64
print(
    plot_masks(
        "masks.png",
        audio=clip.audio,
        fps=clip.fps,
        rows=rows,
        semantic=clip.labels["semantic"][:frames],
        gesture=clip.labels["gesture"][:frames],
        words=clip.words,
        title="What each strategy hides, and where the meaning is",
    )
)
