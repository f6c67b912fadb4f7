"""Hints: give the first pose, a gesture in the middle and the last pose; the model fills in the rest, smoothly.

Needs the extra `viz` for the picture (pip install 'maskmotion[viz]'). Writes hints.npz, hinted.npz and hints.png.
Takes about four minutes on one CPU core the first time, seconds after that; --quick takes seconds and its model knows nothing.
"""

import argparse

import numpy as np
from scipy.io import wavfile

import maskmotion as mm
from maskmotion.sampling.borders import percentiles
from maskmotion.views import plot_hints

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

data, run, recipe = "planted-v1", "runs/tiny", mm.preset("tiny")
if arguments.quick:
    data, run = "planted-v1-small", "runs/quick"
    recipe = recipe.but({f"training.{stage}.steps": 4 for stage in recipe.training})
corpus = mm.open_corpus(data)
model = mm.train(recipe, corpus, run, show=True)

FRAMES = 240  # eight seconds of a recording that no training has seen
take = corpus.test[0]
wavfile.write("speech.wav", 16000, take.audio[: FRAMES * 16000 // 30].numpy())

other = corpus.train[0]  # the gesture comes from another recording
gesture = int((other.labels["gesture"] >= 0).nonzero()[0])
hints = (
    mm.Hints.from_clip(take, 0, translation=True)
    | mm.Hints.from_clip(take, FRAMES - 1, translation=True)
    | mm.Hints.from_clip(other, slice(gesture - 10, gesture + 40), joints=["upper", "hands"], at=95)
)
hints.save("hints.npz")  # maskmotion generate RUN speech.wav hinted.npz --hints hints.npz

exact = model.generate("speech.wav", hints=hints)
soft = model.generate("speech.wav", hints=hints, keep="soft")  # the model sees them, nothing is copied

saved = np.load(exact.save("hinted.npz"))
for key, (values, given) in hints.arrays(FRAMES).items():
    print(f"{key}: {given.sum()} numbers given, {(saved[key][given] != values[given]).sum()} of them changed")

limits = percentiles([clip.motion for clip in corpus.train])
print(plot_hints("hints.png", hints=hints, exact=exact, soft=soft, show="right_elbow", limits=limits))
