"""The preset `tiny`: learn on a CPU within minutes whether a masking strategy is better."""

from __future__ import annotations

from maskmotion.config import Recipe, Spec, Tokenizer, Training


def tiny() -> Recipe:
    """A small masked generator on log-mel speech, with random masks; every strategy runs on it.

    Not a paper: a bench for strategies, with the parts of EchoMask at a scale of about a million weights. Half of every
    batch trains under the generation mask (all but the seed frames hidden), half under the masker.
    """
    return Recipe(
        name="tiny",
        tokenizer=Tokenizer(
            width=48,
            network=Spec("dilated", downsample=4, dilations=(3, 1)),
            quantizer=Spec("rvq", codebook_size=64, num_layers=3),
        ),
        conditioners={
            "mel": Spec("mel"),
            "rhythm": Spec("rhythm"),
            "speaker": Spec("speaker"),
        },
        masker=Spec("random", ratio=0.5),
        generator=Spec("tiny", dropout=0.1),
        training={
            "tokenizer": Training(steps=350, batch_size=32, lr=2e-3),
            "root": Training(steps=150, batch_size=32, lr=2e-3),
            "generator": Training(steps=400, batch_size=32, lr=3e-3, ema_decay=0.99),
        },
    )
