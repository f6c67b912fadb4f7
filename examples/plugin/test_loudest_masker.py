"""The two tests of the plug-in."""

import torch
from loudest_masker import Loudest

import maskmotion as mm
from maskmotion.testing import check, example_batch, example_generator


def test_it_keeps_the_contract_of_a_masker():
    check(Loudest)


def test_it_hides_the_loudest_half():
    batch = example_batch().rows(torch.tensor([0]))
    conditions = example_generator().condition(batch)
    hidden = Loudest(ratio=0.5)(mm.MaskContext(batch, conditions))
    loudness = conditions["rhythm"].features[..., 0]
    assert loudness[hidden].min() >= loudness[~hidden].max()
    assert hidden.sum() == batch.motion.shape[1] // 2
