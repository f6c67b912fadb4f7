"""Speech to motion: a wav becomes BEAT2 motion files that open in Blender's SMPL-X add-on.

Needs nothing: without a trained model it trains `tiny` on the planted corpus, and without a wav it takes one from there.
Takes about four minutes on one CPU core the first time, seconds after that; --quick takes seconds and generates noise.
"""

import argparse

import maskmotion as mm
from maskmotion.data.planted import planted_root

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("speech", nargs="?", help="any audio file; default: a planted recording that no training has seen")
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

data, run, recipe = "planted-v1", "runs/tiny", mm.preset("tiny")
if arguments.quick:
    data, run = "planted-v1-small", "runs/quick"
    recipe = recipe.but({f"training.{stage}.steps": 4 for stage in recipe.training})

model = mm.train(recipe, data, run, show=True)  # a finished run is loaded, not trained again
speech = arguments.speech
if speech is None:
    unseen = mm.open_corpus(data).test[0].name
    speech = planted_root(name=data) / "wave16k" / f"{unseen}.wav"

clip = model.generate(speech, speaker=0)  # the most likely motion
print(clip.save("gesture.npz"), clip.frames, "frames")

takes = model.variants(speech, 3, speaker=0, rng=mm.seed(0), temperature=1.0)  # three drawn ones
for number, take in enumerate(takes, 1):
    moved = (take.motion - clip.motion).abs().mean()
    print(take.save(f"gesture-{number}.npz"), f"differs from the most likely motion by {moved:.3f} a column")
