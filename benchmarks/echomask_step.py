"""A training step of EchoMask: ours against the released graph from stock layers, and what masks by speech cost.

    python benchmarks/echomask_step.py                     # the release's size, batch 4, two threads
    python benchmarks/echomask_step.py --rounds 2 --threads 1
    python benchmarks/echomask_step.py masks               # `small` scale: masks by speech against random masks

Both have the same weights, windows and targets. First, in evaluation (no dropout) and under one given mask, their losses and
gradients are compared, and the command fails where they differ. Then the work of a step is counted, forwards and
backwards, teacher included, and at last whole steps are timed in turns within one process: teacher, masks, passes, losses,
gradients, clipping, optimizer, average. What is told are ratios within a round: median, and the middle 80 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from echomask_generation import counted, drawn, ours, rounds, smooth, speech_features, tell
from plain_echomask import PlainEchoMask, Windows, adam, passes, train_step
from plain_rvq import PARTS

import maskmotion as mm
from maskmotion.interfaces import Generator, MaskContext, Masker
from maskmotion.motion.layout import ROTATIONS
from maskmotion.training.ema import EMA
from maskmotion.types import Batch

RELEASED = 293e9  # multiplications and additions of the released graph, a sample and step
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("what", nargs="?", choices=["release", "masks"], default="release")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--batch", type=int, default=4, help="windows a step (masks: 32)")
parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine, with one thread")
parser.add_argument("--seed", type=int, default=1, help="of weights and windows")


class Given(Masker):
    """Hides the frames that it is given [B, T]."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def scores(self, context: MaskContext) -> Tensor:
        """What is to be hidden, above what is not."""
        return self.mask.float()

    def forward(self, context: MaskContext) -> Tensor:
        """The mask itself."""
        return self.mask


class Training:
    """Our step: what `fit` does in one, without reading data and without a report."""

    def __init__(self, generator: Generator, decay: float = 0.9999) -> None:
        self.generator, self.ema = generator.train(), EMA(generator, decay)
        learning = [one for one in generator.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, 5e-5, (0.5, 0.999), weight_decay=0.0, foreach=True)

    def losses(self, batch: Batch) -> Tensor:
        """The sum of all losses."""
        found = self.generator(batch, teacher=self.ema.model, progress=0.0, stage="generator")
        return torch.stack(list(found.values())).sum()

    def step(self, batch: Batch) -> None:
        """One optimizer step."""
        self.losses(batch).backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), 0.99)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.generator, 10**6)


def windows(model: mm.Model, rows: int) -> tuple[Batch, Windows]:
    """The same random windows for both; targets are what our tokenizers say."""
    motion = model.body.layout.rest.repeat(rows, 64, 1)
    motion[..., ROTATIONS] += 0.1 * torch.cat([smooth(64, 330) for _ in range(rows)])
    heard = [speech_features(model, 64) for _ in range(rows)]
    high, low = (torch.cat([one[level] for one in heard]) for level in (0, 1))
    features = {key: torch.cat([one[2][key] for one in heard]) for key in heard[0][2]}
    speaker = torch.arange(rows) % 25
    batch = Batch(motion, torch.ones(rows, 64, dtype=torch.bool), speaker=speaker, features=features)
    codes = {part: coded.codes for part, coded in model.body.encode(motion).items()}
    zq = {part: model.body[part].quantizer.embed(codes[part]).transpose(1, 2) for part in PARTS}
    who = speaker[:, None].expand(-1, 64)
    return batch, Windows(high, low, motion[..., :337], who, zq, codes)


def norm(module: nn.Module) -> Tensor:
    """Of all gradients, which are then forgotten."""
    found = torch.stack([one.grad.norm() for one in module.parameters() if one.grad is not None]).norm()
    module.zero_grad(set_to_none=True)
    return found


def compare(plain: PlainEchoMask, mine: Training, batch: Batch, given: Windows) -> list[float]:
    """Relative differences of loss and gradient norm, in evaluation and under one mask."""
    mask = torch.arange(64).expand(len(batch.motion), -1) % 3 == 0
    stock = torch.stack(list(passes(plain.eval(), given, mask.float()).values())).sum()
    stock.backward()
    masker, mine.generator.masker = mine.generator.masker, Given(mask)
    found = mine.losses(batch) if mine.generator.eval() else stock
    found.backward()
    mine.generator.train().masker = masker
    ours_norm, stock_norm = norm(mine.generator), norm(plain.train())
    return [((a - b).abs() / b).item() for a, b in ((found.detach(), stock.detach()), (ours_norm, stock_norm))]


def against_the_release(arguments: argparse.Namespace) -> None:
    """Compare, count, time."""
    plain, body = drawn(arguments.seed)
    model = ours(plain, body)
    with torch.no_grad():
        batch, given = windows(model, arguments.batch)
    mine = Training(model.generator)
    differences = compare(plain, mine, batch, given)
    print("relative difference of the loss {:.1e}, of the gradient's norm {:.1e}".format(*differences))
    if differences[0] > 1e-5 or differences[1] > 1e-3:
        sys.exit("losses or gradients differ: nothing is timed")
    teacher = PlainEchoMask().requires_grad_(False).eval()
    teacher.load_state_dict(plain.state_dict())
    optimizer = adam(plain)
    both: dict[str, Callable[[], object]] = {
        "stock": lambda: train_step(plain, teacher, optimizer, given),
        "ours": lambda: mine.step(batch),
    }
    for name, one in both.items():  # which warms it up, too
        with counted() as counter:
            one()
        done = counter.get_total_flops() / arguments.batch
        print(f"{name}: {done / 1e9:.0f} GFLOP a sample, {done / RELEASED:.2f} of the release's {RELEASED / 1e9:.0f}")
        one()
    ratio, took = rounds(both, arguments.rounds, arguments.clock)
    print(f"batch {arguments.batch}, {arguments.threads} threads, {arguments.clock}: ours / stock {tell(ratio)}")
    print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items()))


def cost_of_masks(arguments: argparse.Namespace) -> None:
    """Steps at `small` scale, masks by speech against random ones."""
    rows = 32 if arguments.batch == 4 else arguments.batch
    base = mm.preset("echomask", scale="small")
    with tempfile.TemporaryDirectory() as folder:
        heard = {"conditioners.speech.speech.checkpoint": small_hubert(Path(folder))}
        random = {"masker": mm.Spec("random", ratio=0.5)}
        models = {
            "random": mm.Model.build(base.but(heard | random)),
            "speech": mm.Model.build(base.but(heard)),
        }
    batch = small_batch(models["speech"], rows)
    steps = {name: Training(model.generator) for name, model in models.items()}
    both: dict[str, Callable[[], object]] = {name: lambda one=one: one.step(batch) for name, one in steps.items()}
    for one in both.values():
        one()
    ratio, took = rounds(both, arguments.rounds, arguments.clock)
    print(
        f"small, batch {rows}, {arguments.threads} threads, {arguments.clock}: masks by speech / random masks {tell(ratio)}"
    )
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))


def small_hubert(folder: Path) -> str:
    """A random HuBERT: its features are drawn, it only says how wide they are."""
    from transformers import HubertConfig, HubertModel

    HubertModel(
        HubertConfig(
            hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, conv_dim=(64,) * 7
        )
    ).save_pretrained(folder)
    return str(folder)


def small_batch(model: mm.Model, rows: int) -> Batch:
    """Random windows with labels."""
    motion = model.body.layout.rest.repeat(rows, 64, 1)
    motion[..., ROTATIONS] += 0.1 * torch.cat([smooth(64, 330) for _ in range(rows)])
    features = {one.key: torch.cat([smooth(64, one.dim) for _ in range(rows)]) for one in model.extractors}
    labels = {"semantic": (torch.rand(rows, 64) > 0.8).float()}
    valid = torch.ones(rows, 64, dtype=torch.bool)
    return Batch(motion, valid, speaker=torch.arange(rows) % 25, labels=labels, features=features)


def main() -> None:
    """What was asked for."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    (against_the_release if arguments.what == "release" else cost_of_masks)(arguments)


if __name__ == "__main__":
    main()
