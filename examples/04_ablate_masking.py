"""An ablation is a dict: each row is a difference to one recipe, and all rows share the same tokenizers.

Needs nothing: the planted corpus is made on first use. Runs into runs/ablation (or runs/ablation-quick).
Takes about a quarter of an hour on one CPU core; --quick takes seconds. One seed: a demonstration, no result.
"""

import argparse

import maskmotion as mm
from maskmotion.training.runs import read_log

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

ROWS = {
    "random masks": {},
    "in spans": {"masker": mm.Spec("span", ratio=0.5)},
    "loss-based": {"masker": mm.Spec("loss_based", ratio=0.5)},
    "speech-queried": {"masker": mm.Spec("speech_queried", ratio=0.5)},
    "speech-queried, L_sem": {"masker": mm.Spec("speech_queried", ratio=0.5), "generator.semantic": 1.0},
}

data, runs, base = "planted", "runs/ablation", mm.preset("tiny")
if arguments.quick:
    data, runs = "planted-v1-small", "runs/ablation-quick"
    base = base.but({f"training.{stage}.steps": 2 for stage in base.training})

corpus = mm.open_corpus(data)
tokenizer = f"{runs}/tokenizer"
mm.train(base, corpus, tokenizer, only=["tokenizer", "root"], show=True)

print(f"{'row':<24}{'held-out loss':>14}{'mask lift':>11}")
for label, changes in ROWS.items():
    run = f"{runs}/{label.replace(' ', '-')}"
    mm.train(base.but(changes), corpus, run, tokenizer=tokenizer, show=True)
    measured = [row["validation"] for row in read_log(f"{run}/log.jsonl") if "validation" in row]
    best = min(measured, key=lambda values: values["loss"])
    print(f"{label:<24}{best['loss']:>14.3f}{best['lift']:>11.2f}")
print("One seed, no interval, chosen on the very clips it is measured on: this shows how rows are written, no more.")
