"""Two processes on one machine (gloo): one model, one folder, the codebooks of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskmotion.quantizers import RVQ, VQ, Product

SCRIPT = """
import os, sys, torch, maskmotion as mm
torch.set_num_threads(1)
few = {f"training.{stage}.{field}": value for stage in ("tokenizer", "root", "generator")
       for field, value in (("steps", 3), ("batch_size", 8), ("checkpoint_every", 2))}
model = mm.train(mm.preset("tiny").but(few), "planted-v1-small", sys.argv[1], device="cpu")
total = sum(float(v.double().abs().sum()) for v in model.state_dict().values() if v.is_floating_point())
with open(f"{sys.argv[1]}-rank{os.environ['RANK']}.txt", "w") as file:
    file.write(str(total))
"""


QUANTIZERS = {
    "vq": lambda: VQ(6, 64, decay=0.9),
    "rvq": lambda: RVQ(6, 64, 3, decay=0.9),
    "shared": lambda: RVQ(6, 64, 3, shared=True, decay=0.9),
    "product": lambda: Product(6, 64, 2, decay=0.9),
    "few": lambda: RVQ(6, 200, 2, decay=0.9),  # more codes than latents
}

LEARN = """
import os, torch, torch.distributed as dist
from safetensors.torch import save_file
from test_distributed import learned
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
save_file(learned(rank, dist.get_world_size()), f"rank{rank}.safetensors")
dist.destroy_process_group()
"""


def learned(rank: int = 0, world: int = 1) -> dict[str, torch.Tensor]:
    """The state of every quantizer after 12 batches, of which each process has a contiguous share."""
    state = {}
    for name, build in QUANTIZERS.items():
        quantizer, dead, chosen = build().train(), 0.0, []
        for step in range(12):
            rng = torch.Generator().manual_seed(step)
            batch = torch.randn(16, 1, 6, generator=rng) + 0.2 * torch.randn(16, 10, 6, generator=rng)
            torch.manual_seed(step + 100 * rank)  # the first process's stream is the one that counts
            out = quantizer(batch.chunk(world)[rank])
            dead = dead + out.stats["dead"]
            chosen.append(out.codes.flatten(0, 1))
        state |= {f"{name}.{key}": value.clone() for key, value in quantizer.state_dict().items()}
        state |= {f"{name}.dead": dead, f"{name}.chosen": torch.stack(chosen)}
    return state


def launch(script: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, *arguments], cwd=script.parent, capture_output=True, text=True, check=False, timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What one process learned, and what each of two did."""
    folder = tmp_path_factory.mktemp("codebooks")
    (folder / "script.py").write_text(LEARN)
    launch(folder / "script.py")
    return [learned(), *(load_file(folder / f"rank{rank}.safetensors") for rank in (0, 1))]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_two_processes_with_half_the_batch_learn_the_codebooks_of_one(name, alone_and_together):
    alone, first, second = (
        {key: value for key, value in state.items() if key.startswith(f"{name}.")} for state in alone_and_together
    )
    assert alone[f"{name}.dead"].min() > 0, "codes die and are revived"
    halves = torch.cat([first.pop(f"{name}.chosen"), second.pop(f"{name}.chosen")], dim=1)
    assert torch.equal(halves, alone.pop(f"{name}.chosen")), "the same codes in every step"
    assert all(torch.equal(first[key], second[key]) for key in first), "both processes hold the same state"
    for key, value in alone.items():
        assert torch.allclose(first[key], value, atol=1e-5, rtol=1e-5), key


def test_two_processes_train_one_model(tmp_path, small_corpus):
    (tmp_path / "script.py").write_text(SCRIPT)
    launch(tmp_path / "script.py", str(tmp_path / "run"))
    first, second = ((tmp_path / f"run-rank{rank}.txt").read_text() for rank in (0, 1))
    assert first == second, "both processes hold the same codebooks, weights and averages"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"recipe.json", "run.json", "log.jsonl", "model.safetensors", "plugins.json"}
