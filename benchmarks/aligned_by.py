"""Which part of the body an alignment hears: retrieval of motion by speech, with some parts taken from other windows.

    python benchmarks/aligned_by.py runs/masks/cells/*/seed-0/run --clips 8

Speech of held-out windows looks for its own motion among the windows of its recording (`maskmotion view space`, stage
"aligned"). Then the latents of some parts are those of another window: what the alignment does not hear changes nothing, and
without what it hears retrieval falls to chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MethodType

import torch

import maskmotion as mm
from maskmotion.conditioners import Aligned
from maskmotion.types import Quantized
from maskmotion.views import joint_space, open_clip
from maskmotion.views.clips import held_out

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("runs", nargs="+", type=Path)
parser.add_argument("--data", default="planted")
parser.add_argument("--clips", type=int, default=8)


def mixed(motion: Mapping[str, Quantized], parts: tuple[str, ...]) -> dict[str, Quantized]:
    """The motion with these parts of other windows, the same for all of them."""
    rows = len(next(iter(motion.values())).latents)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    return {part: replace(one, latents=one.latents[order]) if part in parts else one for part, one in motion.items()}


def main() -> None:
    """Print a table a run."""
    arguments = parser.parse_args()
    clips = [open_clip(name, arguments.data) for name in held_out(arguments.data, arguments.clips)]
    for run in arguments.runs:
        model = mm.Model.from_pretrained(run)
        aligned = next(one for one in model.generator.conditioners.values() if isinstance(one, Aligned))
        body = tuple(part for part in model.body.parts if part != "face")
        print(f"{run}\n| parts of other windows | in time | across windows | chance |\n|---|---|---|---|")
        for parts in ((), ("face",), body):

            def look(self: Aligned, motion: Mapping[str, Quantized], parts: tuple[str, ...] = parts) -> dict:
                return type(self).look(self, mixed(motion, parts))

            aligned.look = MethodType(look, aligned)  # type: ignore[method-assign]
            for part, stages in joint_space(model, clips).items():
                found = stages["aligned"].measures()
                told = " | ".join(f"{100 * found[name]:.1f} %" for name in ("in_time", "across", "across_chance"))
                print(f"| {', '.join(parts) or 'none'}{'' if part == 'joint' else f' ({part})'} | {told} |")


if __name__ == "__main__":
    main()
