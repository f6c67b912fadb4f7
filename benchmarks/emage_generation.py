"""Generation by EMAGE's released audio model: ours against the same graph from stock layers (`plain_emage.py`).

    python benchmarks/emage_generation.py                  # 60 s at the release's size, two threads
    python benchmarks/emage_generation.py --seconds 10 --rounds 5 --threads 1

Both share weights, drawn at random; what they give is compared before anything is timed, and the command fails where it
differs by 1e-4. A round runs both, one after the other, in turns first and second; what is told are ratios within a round:
median, and the middle 80 %. The last lines count multiplications, by module, and set them against the rate that the
machine reached on large matrices in the same process. Absolute times belong to a machine and its load.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))

from plain_emage import FULL, PlainBody, PlainEmage, generate
from plain_emage import ROTATIONS as JOINTS

import maskmotion as mm
from maskmotion.motion.layout import EXPRESSIONS, ROTATIONS, TRANSLATION
from maskmotion.nn import linear as quick
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.training.official_emage import emage_keys
from maskmotion.training.official_tokenizers import tokenizer_network

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=float, default=60.0)
parser.add_argument("--seed", type=int, default=1, help="of weights and sound")
PARTS = ("face", "upper", "hands", "lower")


def drawn(seed: int) -> tuple[PlainEmage, PlainBody]:
    """The yardstick with random weights under which decisions are clear and poses are near rest."""
    torch.manual_seed(seed)
    network, body = PlainEmage(FULL), PlainBody()
    for module in (network, body):
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(float(name.endswith("weight")), 0.1)
            elif value.ndim > 1 and not name.endswith(".pe"):
                gain = 3.0 if name.endswith("in_proj_weight") else 1.0
                gain = 0.15 if name.endswith(("attn.out_proj.weight", "linear2.weight")) else gain
                value.normal_(0, 0.5 if "embedding" in name else gain * value[0].numel() ** -0.5)
    for part, joints in JOINTS.items():
        last = getattr(body, part).decoder.main[-1]
        last.weight.data.mul_(0.3)
        last.bias.data[: 6 * len(joints)] += torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(len(joints))
    return network.eval(), body.eval()


def ours(network: PlainEmage, body: PlainBody) -> mm.Model:
    """The preset with the same weights."""
    model = mm.Model.build(mm.preset("emage-release")).eval()
    given, state = network.state_dict(), model.state_dict()
    for official, name in emage_keys(given).items():
        target = state[f"generator.{name}"]
        target.copy_(given[official].reshape(target.shape))
    for part in (*PARTS, "predictor"):
        tensors = getattr(body, part).state_dict()
        found = tokenizer_network({name: tuple(value.shape) for name, value in tensors.items()})
        assert found is not None and not isinstance(found, str)
        place = "root" if part == "predictor" else f"generator.body.tokenizers.{part}"
        for official, name in found.keys.items():
            state[f"{place}.{name}"].copy_(tensors[official])
    return model


def contenders(seconds: float, seed: int = 1) -> dict[str, Callable[[], list[Tensor]]]:
    """Both, as functions that give motion [1, T, 337], expressions and path."""
    network, body = drawn(seed)
    model = ours(network, body)
    audio = 0.1 * torch.randn(1, round(16000 * seconds))
    speech = Speech(lengths=torch.tensor([audio.shape[1] * 30 // 16000]), audio=audio)
    rest = model.body.layout.rest.expand(1, 4, -1)

    def stock() -> list[Tensor]:
        made = generate(network, body, audio, torch.zeros(1, 1, dtype=torch.long))
        return [made["motion"], made["expressions"], made["translation"]]

    @torch.inference_mode()
    def own() -> list[Tensor]:
        motion = model.place(generate_clip(model.generator, speech, rest, 64).motion)
        return [motion[..., ROTATIONS], motion[..., EXPRESSIONS], motion[..., TRANSLATION]]

    return {"stock": stock, "ours": own}


def same(stock: list[Tensor], mine: list[Tensor]) -> float:
    """The largest difference. The rotations' only where decoded, not the raw channels beside them."""
    stock = [stock[0][..., ROTATIONS], *stock[1:]]
    return max((a - b).abs().max().item() for a, b in zip(stock, mine, strict=True))


def rate(size: int = 1920) -> float:
    """Multiplications and additions a second on large matrices, the better of both libraries, three tries."""
    x, weight, bias = torch.randn(size, 768), torch.randn(3072, 768), torch.zeros(3072)
    best = 0.0
    with torch.inference_mode():
        for product in (torch.nn.functional.linear, quick.linear):
            for _ in range(6):
                start = time.perf_counter()
                product(x, weight, bias)
                best = max(best, 2 * weight.numel() * size / (time.perf_counter() - start))
    return best


@contextmanager
def no_onednn() -> Iterator[None]:
    """Linear layers by torch's own product, which the counter knows."""
    kept, quick._ONEDNN = quick._ONEDNN, None
    yield
    quick._ONEDNN = kept


def main() -> None:
    """Compare, time, count."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    both = contenders(arguments.seconds, arguments.seed)
    difference = same(*(one() for one in both.values()))
    print(f"largest difference {difference:.1e}")
    if difference > 1e-4:
        sys.exit("the outputs differ: nothing is timed (two codes that are nearly alike, perhaps: try another --seed)")
    times: dict[str, list[float]] = {name: [] for name in both}
    for number in range(arguments.rounds):
        for name in sorted(both, reverse=bool(number % 2)):
            start = time.perf_counter()
            both[name]()
            times[name].append(time.perf_counter() - start)
    ratio = np.array(times["ours"]) / np.array(times["stock"])
    low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    print(f"{arguments.seconds:g} s, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"ours / stock: {middle:.2f} ({low:.2f} to {high:.2f})")
    peak = rate()
    for name, one in both.items():
        with no_onednn(), FlopCounterMode(display=False) as counter:
            one()
        done = counter.get_total_flops()
        took = float(np.median(times[name]))
        print(
            f"{name}: {done / 1e9:.0f} GFLOP, {done / took / peak:.2f} of the measured matrix rate ({peak / 1e9:.0f} GFLOP/s)"
        )


if __name__ == "__main__":
    main()
