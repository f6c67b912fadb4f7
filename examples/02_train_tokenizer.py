"""Motion to tokens and back: train the part tokenizers and see what each residual layer of codes adds.

Needs nothing: the planted corpus is made on first use. Runs into runs/tokenizer (or runs/tokenizer-quick).
Takes about a minute on one CPU core; --quick takes seconds and has learned nothing.
"""

import argparse

import maskmotion as mm
from maskmotion.evaluation.tokens import code_use, errors_by_depth

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps on a small corpus, to see that it runs")
arguments = parser.parse_args()

data, run, recipe = "planted", "runs/tokenizer", mm.preset("tiny")
if arguments.quick:
    data, run = "planted-v1-small", "runs/tokenizer-quick"
    recipe = recipe.but({"training.tokenizer.steps": 4})

corpus = mm.open_corpus(data)
model = mm.train(recipe, corpus, run, only=["tokenizer"], show=True)
clip = corpus.validation[0]

for part, use in code_use(model.body, [clip.motion]).items():
    spread = ", ".join(f"{value:.0f}" for value in use.perplexity)
    print(f"{part}: perplexity {spread} of {model.body.codebook_size} codes, layer by layer")
for layers, errors in enumerate(errors_by_depth(model.body, clip.motion), 1):
    parts = ", ".join(f"{part} {error.degrees:.1f} deg, {error.centimetres:.1f} cm" for part, error in errors.items())
    print(f"{layers} of {model.body.num_layers} layers, held-out motion: {parts}")
