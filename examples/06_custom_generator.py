"""A network of your own: a MaskedGenerator writes `predict`; passes, losses, masks and generation are there already.

Needs nothing: the planted corpus is made on first use. Runs into runs/folded (or runs/folded-quick).
Takes about three minutes on one CPU core; --quick takes seconds and has learned nothing.
"""

import argparse

import torch
from torch import nn

import maskmotion as mm
from maskmotion.nn.transformer import Block, positions
from maskmotion.testing import check

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()


@mm.register("folded")
class Folded(mm.MaskedGenerator):
    """Speech and what is visible of the motion, folded to tokens, through one transformer.

    It has no speech-to-motion attention, so it takes every masker but the speech-queried one.
    """

    def __init__(self, body, conditioners, masker=None, seed_frames=4, dim: int = 64, layers: int = 2) -> None:
        super().__init__(body, conditioners, masker, seed_frames)
        heard = sum(conditioner.dim for conditioner in conditioners.values())
        codes = body.num_layers * (body.codebook_size + body.dim)
        self.unknown = nn.Parameter(torch.zeros(body.layout.dim))
        self.fold = nn.Linear(body.downsample * (body.layout.dim + heard), dim)
        self.blocks = nn.ModuleList(Block(dim, heads=4) for _ in range(layers))
        self.heads = nn.ModuleDict({part: nn.Linear(dim, codes) for part in body.parts})

    def predict(self, motion, hidden, valid, conditions, *, speech=True):
        seen = torch.where(hidden, self.unknown, self.body.normalise(motion))  # [B, T, D]
        heard = torch.cat([condition.features for condition in conditions.values()], dim=-1) * speech
        frames = torch.cat([seen, heard], dim=-1) * valid[..., None]
        x = self.fold(frames.unflatten(1, (-1, self.body.downsample)).flatten(2))  # [B, N, C]
        x = x + positions(*x.shape[1:], x)
        real = valid.unflatten(1, (-1, self.body.downsample)).any(-1)
        for block in self.blocks:
            x = block(x, real)
        logits, latents = {}, {}
        for part, head in self.heads.items():
            out = head(x).unflatten(-1, (self.body.num_layers, -1))  # [B, N, Q, K + C]
            logits[part], latents[part] = out.split([self.body.codebook_size, self.body.dim], dim=-1)
        return mm.Prediction(logits, latents)


check(Folded)  # hidden values and padding have no effect, rows are independent, the tokenizers stay frozen
recipe = mm.preset("tiny").but({"generator": mm.Spec("folded", layers=3)})

data, run = "planted", "runs/folded"
if arguments.quick:
    data, run = "planted-v1-small", "runs/folded-quick"
    recipe = recipe.but({f"training.{stage}.steps": 4 for stage in recipe.training})
model = mm.train(recipe, data, run, show=True)
print(f"{run}: {sum(weights.numel() for weights in model.generator.heads.parameters()):,} weights in the heads alone")
