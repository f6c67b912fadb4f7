"""RVQ against vector-quantize-pytorch and against its own matrix products, side by side in one process.

    python benchmarks/rvq.py            # 64 x 64 tokens, 512 dimensions, 256 codes, 6 layers; two threads

A round runs every contender twice, in turn, and times the second time; a row is the ratio of times within a round: its
median and the middle 80 % of the rounds. Absolute times are not reported: they belong to a machine and its load.
Needs `pip install maskmotion[vq]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from vector_quantize_pytorch import ResidualVQ

from maskmotion.quantizers.rvq import RVQ

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--batch", type=int, default=64, help="windows of 64 tokens")
parser.add_argument("--dim", type=int, default=512)
parser.add_argument("--codes", type=int, default=256)
parser.add_argument("--layers", type=int, default=6)


def seconds(contender: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    contender()
    return time.perf_counter() - start


def contenders(batch: int, dim: int, codes: int, layers: int) -> dict[str, Callable[[], object]]:
    """The five things that are timed, all on the same latents and, for encoding, the same codebooks."""
    torch.manual_seed(0)
    latents = torch.randn(batch, 64, dim)
    learning = latents.clone().requires_grad_()
    ours = RVQ(dim, codes, layers).train()
    theirs = ResidualVQ(
        dim=dim, num_quantizers=layers, codebook_size=codes, decay=0.99, threshold_ema_dead_code=1, kmeans_init=False
    )
    ours(latents)
    for mine, other in zip(ours.codebooks, theirs.layers, strict=True):
        other._codebook.embed.copy_(mine.codes[None])  # theirs holds one table a head
    tables = [book.codes.clone() for book in ours.codebooks]
    flat, out = latents.flatten(0, 1), torch.empty(batch * 64, codes)

    def products() -> None:
        for table in tables:
            torch.mm(flat, table.T, out=out)

    def encode(quantizer: torch.nn.Module) -> object:
        with torch.no_grad():
            return quantizer.eval()(latents)

    return {
        "train step, ours": lambda: ours.train()(learning),
        "train step, theirs": lambda: theirs.train()(learning),
        "encode, ours": lambda: encode(ours),
        "encode, theirs": lambda: encode(theirs),
        "bare products": products,
    }


def main() -> None:
    """Print the ratios."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    timed = contenders(arguments.batch, arguments.dim, arguments.codes, arguments.layers)
    for _ in range(3):
        for contender in timed.values():
            contender()
    rounds = {name: [] for name in timed}
    for _ in range(arguments.rounds):
        for name, contender in timed.items():
            contender()  # brings memory and caches into its own state, whoever ran before
            rounds[name].append(seconds(contender))
    times = {name: np.array(values) for name, values in rounds.items()}
    size = f"{arguments.batch} x 64 tokens, {arguments.dim} dims, {arguments.codes} codes, {arguments.layers} layers"
    print(f"{size}; {arguments.threads} threads, {arguments.rounds} rounds")
    print("| ratio of times | median | middle 80 % |\n|---|---|---|")
    for above, below in (
        ("train step, theirs", "train step, ours"),
        ("encode, theirs", "encode, ours"),
        ("encode, ours", "bare products"),
        ("train step, ours", "bare products"),
    ):
        ratio = times[above] / times[below]
        low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
        print(f"| {above} / {below} | {middle:.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
