"""Train a preset with two changes of your own, follow it on held-out clips, and draw its learning curves.

Needs the extra `viz` for the picture (pip install 'maskmotion[viz]'). Runs into runs/queried (or runs/queried-quick).
Takes about four minutes on one CPU core; --quick takes seconds and has learned nothing.
"""

import argparse

import maskmotion as mm
from maskmotion.training.runs import read_log
from maskmotion.views import plot_losses

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", help="path of a BEAT2 tree; default: the planted corpus")
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

tiny = mm.preset("tiny")
recipe = tiny.but(
    {
        "masker": mm.Spec("speech_queried", ratio=0.5, hard=mm.Linear(0.0, 0.3), soft=mm.Linear(0.3, 0.0)),
        "generator.semantic": 1.0,  # L_sem: attention learns the semantic labels of the data
    }
)
data, run = arguments.data or "planted", "runs/queried"
if arguments.quick:
    data, run = arguments.data or "planted-v1-small", "runs/queried-quick"
    recipe = recipe.but({f"training.{stage}.steps": 4 for stage in recipe.training})

print("changes to tiny:", tiny.diff(recipe))
mm.train(recipe, data, run, show=True)

log = [row for row in read_log(f"{run}/log.jsonl") if row["stage"] == "generator"]
for row in log:
    if "validation" in row:
        lift = row["validation"].get("lift")  # absent where the data has no semantic labels
        print(f"step {row['step']}: held-out loss {row['validation']['loss']:.3f}, mask lift {lift}")
print(plot_losses(f"{run}/curves.png", log, title="speech-queried masks with L_sem"))
