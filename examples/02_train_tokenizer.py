"""Motion to tokens and back: train the part tokenizers and see what each residual layer of codes adds.

Needs nothing: the planted corpus is made on first use. Runs into runs/tokenizer (or runs/tokenizer-quick).
Takes about a minute on one CPU core; --quick takes seconds and has learned nothing.
"""

import argparse

import torch

import maskmotion as mm
from maskmotion.data.windows import WindowDataset
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import ROTATIONS, TRANSLATION

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

data, run, recipe = "planted", "runs/tokenizer", mm.preset("tiny")
if arguments.quick:
    data, run = "planted-v1-small", "runs/tokenizer-quick"
    recipe = recipe.but({"training.tokenizer.steps": 4})

corpus = mm.open_corpus(data)
model = mm.train(recipe, corpus, run, only=["tokenizer"], show=True)
batch = WindowDataset(corpus.validation, recipe.body.window, recipe.body.window).batch(range(8))


def joints(motion):
    """Joint positions in metres, the root where it really was: [B, T, 55, 3]."""
    rotations = motion[..., ROTATIONS].unflatten(-1, (-1, 6))
    return forward_kinematics(rotations, batch.motion[..., TRANSLATION])


with torch.no_grad():
    codes = {part: tokens.codes for part, tokens in model.body.encode(batch.motion).items()}  # part -> [B, N, Q]
    for part, index in codes.items():
        used = len(index[..., 0].unique())
        print(f"{part}: tokens {list(index.shape)}, {used} of {model.body.codebook_size} coarse codes in use")
    for layers in range(1, model.body.num_layers + 1):
        coarse = {part: index.where(torch.arange(index.shape[-1]) < layers, -1) for part, index in codes.items()}
        error = (joints(model.body.decode_codes(coarse)) - joints(batch.motion)).norm(dim=-1).mean()
        print(f"{layers} of {model.body.num_layers} layers: mean joint error {100 * error:.1f} cm on held-out motion")
