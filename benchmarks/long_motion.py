"""An hour of motion to tokens and back: tokens a second, and memory over length.

    python benchmarks/long_motion.py                 # tokenizers of EchoMask's shape, untrained: speed does not depend on it
    python benchmarks/long_motion.py --minutes 5 60 --network plain

Each length runs in a process of its own. Memory is the process's peak above what it held when everything but the output was
there, less the output: what the work itself needs. "at once" does without pieces, for comparison, where `--whole` asks.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import torch

from maskmotion.config import Body, Root, Spec, Tokenizer
from maskmotion.tokenizers.pretrained import build_tokenizers

PLANS = {
    "dilated": Tokenizer(
        width=256, network=Spec("dilated", dilations=(9, 3, 1)), quantizer=Spec("rvq", codebook_size=256, num_layers=6)
    ),
    "plain": Tokenizer(width=256, network=Spec("plain", layers=2), quantizer=Spec("vq", learning="gradient")),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
parser.add_argument("--network", choices=PLANS, default="dilated")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--whole", type=float, default=0, help="also do lengths up to so many minutes at once")

MEGABYTE = 2**20


def peak() -> int:
    """Peak resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(network: str, minutes: float, threads: int, whole: bool) -> dict[str, float]:
    """Seconds and working memory of both directions for one length."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    body = build_tokenizers(Body(), PLANS[network], Root())[0]
    frames = round(minutes * 60 * body_fps())
    body.train()
    with torch.no_grad():
        for part in body.parts:  # puts the codebooks on data
            body[part].encode(torch.randn(8, 64, body.layout.size(part)))
    body.eval()
    motion = torch.randn(1, frames, body.layout.dim)
    piece = {"piece": body.tokens(frames)} if whole else {}
    body.tokenize(motion[:, :256])
    found = {}
    before, start = peak(), time.perf_counter()
    codes = body.tokenize(motion, **piece)
    found["tokenize s"] = time.perf_counter() - start
    found["tokenize MB"] = (peak() - before - sum(c.nbytes for c in codes.values())) / MEGABYTE
    before, start = peak(), time.perf_counter()
    again = body.detokenize(codes, frames, **piece)
    found["detokenize s"] = time.perf_counter() - start
    found["detokenize MB"] = (peak() - before - again.nbytes) / MEGABYTE
    return found | {"tokens": len(body.parts) * body.tokens(frames)}


def body_fps() -> int:
    """Frames a second of every recipe."""
    return Body().fps


def main() -> None:
    """Print one row a length."""
    arguments = parser.parse_args()
    print(f"{arguments.network}, {arguments.threads} threads; tokens of all four parts")
    print(
        "| minutes | way | tokens/s to tokens | tokens/s back | working memory to tokens | back |\n" + "|---" * 6 + "|"
    )
    for minutes in arguments.minutes:
        for whole in (False, True) if minutes <= arguments.whole else (False,):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(measure, (arguments.network, minutes, arguments.threads, whole))
            speeds = [f"{row['tokens'] / row[way]:.0f}" for way in ("tokenize s", "detokenize s")]
            memory = [f"{max(0, row[way]):.0f} MB" for way in ("tokenize MB", "detokenize MB")]
            print(f"| {minutes:g} | {'at once' if whole else 'pieces'} | {' | '.join(speeds + memory)} |", flush=True)


if __name__ == "__main__":
    main()
