"""The library without registry, recipes or run folders: constructors, one loop, and tensors in your own hands.

Needs nothing: the planted corpus is made on first use. Writes gesture.npz.
Takes about three minutes on one CPU core; --quick takes seconds and has learned nothing.
"""

import argparse

import torch

from maskmotion import Clip, Linear, Training, open_corpus
from maskmotion.conditioners import Mel, Rhythm
from maskmotion.data.windows import WindowDataset
from maskmotion.generators import Tiny
from maskmotion.motion.layout import SMPLX
from maskmotion.quantizers import RVQ
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.strategies import SpeechQueried
from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer
from maskmotion.training.loop import fit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()
data, steps = ("planted-v1-small", 4) if arguments.quick else ("planted", 450)

torch.manual_seed(0)
conditioners = {"mel": Mel(), "rhythm": Rhythm()}
extractors = [extractor for conditioner in conditioners.values() for extractor in conditioner.extractors]
corpus = open_corpus(data)
windows = WindowDataset(corpus.train, window=64, stride=20, extractors=extractors)

body = BodyTokenizer(
    {
        part: PartTokenizer(columns, Dilated(len(columns), 48, downsample=4), RVQ(48, 64, num_layers=3))
        for part, columns in SMPLX.columns.items()
    }
)
body.set_statistics(clip.motion for clip in corpus.train)
fit(body, windows, Training(steps=steps, lr=2e-3), stage="tokenizer")

masker = SpeechQueried(ratio=0.5, hard=Linear(0.0, 0.3), soft=Linear(0.3, 0.0))
student = Tiny(body, conditioners, masker, dim=96, dropout=0.1)
teacher = fit(student, windows, Training(steps=steps, lr=3e-3, ema_decay=0.99))  # the average of the student's weights

clip = corpus.validation[0]
heard = {extractor.key: extractor(clip.audio, clip.frames, clip.fps)[None] for extractor in extractors}
speech = Speech(lengths=torch.tensor([clip.frames]), features=heard, fps=clip.fps)
with torch.no_grad():
    window = generate_clip(teacher, speech, seed=clip.motion[None, :4], window=64)
gesture = Clip(clip.name, window.motion[0], clip.audio, clip.fps)
print(gesture.save("gesture.npz"), f"{gesture.frames} frames, for the {clip.frames} of {clip.name}")
