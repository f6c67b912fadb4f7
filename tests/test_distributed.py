"""Two processes on one machine (gloo): one model, one folder."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_two_processes_train_one_model(tmp_path, small_corpus):
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "script.py"), str(tmp_path / "run")],
        capture_output=True, text=True, check=False, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ((tmp_path / f"run-rank{rank}.txt").read_text() for rank in (0, 1))
    assert first == second, "both processes hold the same codebooks, weights and averages"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"recipe.json", "run.json", "log.jsonl", "model.safetensors", "plugins.json"}
