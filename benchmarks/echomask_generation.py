"""Generation by EchoMask's released model: ours against the same graph from stock layers (`plain_echomask.py`).

    python benchmarks/echomask_generation.py                  # 60 s at the release's size, two threads
    python benchmarks/echomask_generation.py --seconds 10 --rounds 3 --threads 1
    python benchmarks/echomask_generation.py --bf16           # our network's products at half the width, and its error

Both share weights, drawn at random, and speech features, so that no HuBERT is timed. What they give is compared before
anything is timed, and the command fails where it differs by 1e-4. A round runs both, one after the other, in turns first
and second; what is told are ratios within a round: median, and the middle 80 %. The last lines count multiplications and
set them against the rate that the machine reached on large matrices in the same process. Absolute times belong to a machine
and its load.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from emage_generation import no_onednn, rate
from plain_echomask import PlainEchoMask, generate
from plain_rvq import PARTS, ROTATIONS, SEED, PlainBody

import maskmotion as mm
from maskmotion.motion.layout import EXPRESSIONS, TRANSLATION
from maskmotion.motion.layout import ROTATIONS as TURNS
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.training.official_echomask import as_ours, echomask_keys
from maskmotion.training.official_tokenizers import tokenizer_network

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=float, default=60.0)
parser.add_argument("--seed", type=int, default=1, help="of weights and speech")
parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine, with one thread")
parser.add_argument("--bf16", action="store_true", help="our network in bfloat16, whose error is told")


@torch.no_grad()
def drawn(seed: int) -> tuple[PlainEchoMask, PlainBody]:
    """The yardstick with random weights under which codes are clear and poses are near rest."""
    torch.manual_seed(seed)
    network, body = PlainEchoMask(), PlainBody()
    for module in (network, body):
        for name, value in module.state_dict().items():
            if name.endswith("codebook"):
                value.normal_(0, 0.4)
            elif name.endswith("fusion_weights"):
                value.normal_(0.33, 0.1)
            elif value.ndim == 1:
                value.normal_(float(name.endswith("weight")), 0.1)
            elif value.ndim > 1 and not name.endswith(".pe"):
                gain = 3.0 if name.endswith("in_proj_weight") else 1.0
                gain = 0.15 if name.endswith(("attn.out_proj.weight", "linear2.weight")) else gain
                value.normal_(0, gain * value[0].numel() ** -0.5)
    for part, joints in ROTATIONS.items():
        last = getattr(body, part).decoder.model[-1]
        last.weight.mul_(0.1)
        last.bias[: 6 * len(joints)] += torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(len(joints))
    return network.eval(), body.eval()


def ours(network: PlainEchoMask, body: PlainBody) -> mm.Model:
    """The preset with the same weights."""
    model = mm.Model.build(mm.preset("echomask-release")).eval()
    given, state = network.state_dict(), model.state_dict()
    for official, name in echomask_keys().items():
        state[f"generator.{name}"].copy_(as_ours(name, given[official]))
    for part in (*PARTS, "predictor"):
        tensors = getattr(body, part).state_dict()
        found = tokenizer_network({name: tuple(value.shape) for name, value in tensors.items()})
        assert found is not None
        place = "root" if part == "predictor" else f"generator.body.tokenizers.{part}"
        for official, name in found.keys.items():
            state[f"{place}.{name}"].copy_(tensors[official])
    return model


def speech_features(model: mm.Model, frames: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Random speech: high and low level [1, T, 256], and both as the preset's conditioner reads them."""
    model.generator.conditioners["speech"].speech.extractor.key = "drawn"  # its own would look for the checkpoint
    low, high = smooth(frames), smooth(frames)
    return high, low, {"drawn": torch.cat([low, high], dim=-1)}


def smooth(frames: int, dim: int = 256) -> Tensor:
    """Features [1, T, C] that change as slowly as speech does."""
    noise = torch.randn(1, dim, frames + 8)
    return 3 * nn.functional.avg_pool1d(noise, 9, 1).mT


def contenders(seconds: float, seed: int, precision: str = "float32") -> dict[str, Callable[[], list[Tensor]]]:
    """Both, as functions that give rotations [1, T, 330], expressions and path; ours gives the latents of parts as well."""
    network, body = drawn(seed)
    network.requires_grad_(False)  # torch's counter does not take a module's input that is a view of a weight
    model = ours(network, body)
    frames = round(30 * seconds)
    high, low, features = speech_features(model, frames)
    speaker = torch.zeros(1, dtype=torch.long)
    speech = Speech(lengths=torch.tensor([frames]), features=features, speaker=speaker)
    rest = model.rest_pose().expand(1, SEED, -1)

    def stock() -> list[Tensor]:
        made = generate(network, body, high, low, speaker, rest[..., :337], rest[:, 0, TRANSLATION])
        return [made["rotations"], made["expressions"], made["translation"]]

    @torch.inference_mode()
    def own() -> list[Tensor]:
        made = generate_clip(model.generator, speech, rest, 64, precision=precision)
        motion = model.place(made.motion)
        return [motion[..., TURNS], motion[..., EXPRESSIONS], motion[..., TRANSLATION], *made.latents.values()]

    return {"stock": stock, "ours": own}


def largest(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[float]:
    """The largest difference of rotations, expressions and path."""
    return [(a - b).abs().max().item() for a, b in zip(one, other, strict=True)]


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Multiplications and additions of everything that runs inside, attention and encoder layers among them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with no_onednn(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter
    torch.backends.mha.set_fastpath_enabled(fast)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def rounds(
    both: dict[str, Callable[[], object]], count: int, clock: str = "wall"
) -> tuple[np.ndarray, dict[str, float]]:
    """Time of the second to that of the first within each round, and the median time of each. Both have run before."""
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in both}
    for number in range(count):
        for name in list(both)[:: -1 if number % 2 else 1]:
            start = now()
            both[name]()
            times[name].append(now() - start)
    first, second = (np.array(taken) for taken in times.values())
    return second / first, {name: float(np.median(taken)) for name, taken in times.items()}


def tell(ratio: np.ndarray) -> str:
    """Median and the middle 80 %."""
    low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    return f"{middle:.2f} ({low:.2f} to {high:.2f}), {len(ratio)} rounds"


def judge(stock: list[Tensor], mine: list[Tensor]) -> None:
    """Tell how far both are apart; exits where that is more than rounding."""
    differences = largest(stock, mine[:3])
    told = ", ".join(f"{name} {x:.1e}" for name, x in zip(("rotations", "expressions", "path"), differences))
    print(f"largest difference: {told}")
    if max(differences) > 1e-4:
        sys.exit("the outputs differ: nothing is timed (two codes that are nearly alike, perhaps: try another --seed)")


def tell_error(whole: list[Tensor], half: list[Tensor]) -> None:
    """What bfloat16 changes of our own clip: tokens, and the numbers of its rotations."""
    alike = torch.stack([(a == b).all(-1) for a, b in zip(whole[3:], half[3:], strict=True)]).float().mean()
    off = (whole[0] - half[0]).abs()
    print(f"bfloat16: {alike:.0%} of tokens have all codes alike; rotations are off by {off.mean():.1e} in the mean")


def main() -> None:
    """Compare, time, count."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    both = contenders(arguments.seconds, arguments.seed)
    whole = both["ours"]()
    judge(both["stock"](), whole)
    if arguments.bf16:
        both = contenders(arguments.seconds, arguments.seed, "bfloat16")
        tell_error(whole, both["ours"]())
        both["stock"]()
    ratio, took = rounds(both, arguments.rounds, arguments.clock)
    print(f"{arguments.seconds:g} s, {arguments.threads} threads, {arguments.clock}: ours / stock {tell(ratio)}")
    peak = rate()
    for name, one in both.items():
        with counted() as counter:
            one()
        done = counter.get_total_flops()
        share = done / took[name] / peak
        print(f"{name}: {done / 1e9:.0f} GFLOP, {share:.2f} of the measured matrix rate ({peak / 1e9:.0f} GFLOP/s)")


if __name__ == "__main__":
    main()
