"""Whether codebooks collapse: perplexity of every layer over seeds, on the planted corpus.

    python benchmarks/collapse.py --seeds 0 1 2

Trains the tokenizers of `tiny` (64 codes, 3 layers) and the same with 256 codes and 6 layers, and prints the lowest
perplexity of any part and seed, as a share of the codebook, on the clips learned from and on held-out ones.
"""

from __future__ import annotations

import argparse
from tempfile import TemporaryDirectory

import torch

import maskmotion as mm
from maskmotion.evaluation.tokens import code_use

CODEBOOKS = {
    "64 codes, 3 layers, width 48 (tiny)": {},
    "256 codes, 6 layers, width 64": {
        "tokenizer.width": 64,
        "tokenizer.quantizer": mm.Spec("rvq", codebook_size=256, num_layers=6),
    },
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--threads", type=int, default=1)


def shares(changes: dict[str, object], seed: int) -> dict[str, torch.Tensor]:
    """Split -> perplexity over the codebook's size, [parts, Q]."""
    corpus = mm.open_corpus("planted")
    with TemporaryDirectory() as folder:
        recipe = mm.preset("tiny").but({"seed": seed, **changes})
        body = mm.train(recipe, corpus, folder, only=["tokenizer"]).body
    splits = {"learned from": corpus.train, "held out": [*corpus.validation, *corpus.test]}
    return {
        name: torch.stack([use.perplexity for use in code_use(body, [clip.motion for clip in clips]).values()])
        / body.codebook_size
        for name, clips in splits.items()
    }


def main() -> None:
    """Print one row a codebook and split: the worst part and seed of each layer."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| codebooks | clips | lowest perplexity / codebook size, by layer |\n|---|---|---|")
    for name, changes in CODEBOOKS.items():
        seeds = [shares(changes, seed) for seed in arguments.seeds]
        for split in seeds[0]:
            worst = torch.stack([one[split] for one in seeds]).flatten(0, 1).amin(0)
            print(f"| {name} | {split} | " + ", ".join(f"{share:.2f}" for share in worst.tolist()) + " |", flush=True)


if __name__ == "__main__":
    main()
