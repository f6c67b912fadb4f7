"""Onsets and amplitude as EMAGE's scripts of 2024 compute them, array by array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskmotion.conditioners.waveform import amplitude_of_2024, onsets_of_2024

FILE = Path("emage/paper_era/onset_amplitude.npz")


@pytest.mark.parametrize("array", ["amplitude", "onset_frames", "onset_array_nonzero"])
def test_parity_of_onsets_and_amplitude(golden, array):
    if not (golden / FILE).is_file():
        pytest.skip(f"MASKMOTION_GOLDEN has no {FILE}")
    with np.load(golden / FILE, allow_pickle=False) as held:
        assert set(held.files) == {"audio", "amplitude", "onset_frames", "onset_array_nonzero"}
        audio, expected = torch.from_numpy(held["audio"]), held[array]
    if array == "amplitude":
        assert np.array_equal(amplitude_of_2024(audio).numpy(), expected)
    else:  # the flaw of the scripts: frame numbers are taken for sample numbers
        assert np.array_equal(onsets_of_2024(audio).nonzero()[:, 0].numpy(), expected)
