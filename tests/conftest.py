"""Shared fixtures. Every test runs with shape annotations checked: jaxtyping and beartype hook into the import."""

from __future__ import annotations

import os
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("maskmotion", "beartype.beartype")

import pytest  # noqa: E402  the hook comes before anything that imports maskmotion
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def beat2() -> Path:
    """The BEAT2 tree that MASKMOTION_BEAT2 names."""
    path = os.environ.get("MASKMOTION_BEAT2")
    if not path:
        pytest.skip("MASKMOTION_BEAT2 is not set: it names a beat_english_v2.0.0 folder, which is not ours to ship")
    return Path(path)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of parity fixtures that MASKMOTION_GOLDEN names."""
    path = os.environ.get("MASKMOTION_GOLDEN")
    if not path:
        pytest.skip("MASKMOTION_GOLDEN is not set: it names the folder of parity fixtures, which are not ours to ship")
    return Path(path)


@pytest.fixture(scope="session")
def small_hubert(tmp_path_factory) -> Path:
    """A checkpoint's folder: HuBERT of four layers and 64 channels with random weights."""
    from hubert_folder import write_hubert

    with torch.random.fork_rng():
        return write_hubert(tmp_path_factory.mktemp("checkpoint") / "small", layers=4, size=64)


@pytest.fixture(scope="session")
def hear_with(small_hubert):
    """A recipe -> the same recipe that hears with `small_hubert` wherever it hears with a HuBERT; others stay as they are."""
    from maskmotion.config import Spec

    def changes(spec, path):
        if spec.name in ("speech", "released_speech"):
            yield from {f"{path}.checkpoint": str(small_hubert), f"{path}.low": 1, f"{path}.high": -1}.items()
        for name, value in spec.arguments.items():
            if isinstance(value, Spec):
                yield from changes(value, f"{path}.{name}")

    def hear(recipe):
        specs = recipe.conditioners.items()
        return recipe.but(dict(change for name, spec in specs for change in changes(spec, f"conditioners.{name}")))

    return hear


@pytest.fixture(scope="session")
def small_corpus():
    """planted-v1-small: the planted corpus at a tenth of its size."""
    import maskmotion as mm

    return mm.open_corpus("planted-v1-small")


@pytest.fixture(scope="session")
def quick_recipe():
    """`tiny`, at a few steps a stage: to see that things run, not that they learn."""
    import maskmotion as mm

    few = {f"training.{stage}.{field}": value for stage in ("tokenizer", "root", "generator")
           for field, value in (("steps", 6), ("batch_size", 8), ("validate_every", 3), ("checkpoint_every", 2))}  # fmt: skip
    return mm.preset("tiny").but(few)


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory, quick_recipe, small_corpus) -> Path:
    """A finished run of the quick recipe with random masks."""
    import maskmotion as mm

    folder = tmp_path_factory.mktemp("runs") / "quick"
    mm.train(quick_recipe, small_corpus, folder)
    return folder


@pytest.fixture(scope="session")
def speech_file(tmp_path_factory) -> Path:
    """2.5 s of synthetic speech-like sound, 16 kHz mono."""
    import numpy as np
    import soundfile

    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    time = np.arange(40000) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 140 * time) * (np.sin(2 * np.pi * 3 * time) > 0)
    soundfile.write(path, wave.astype(np.float32), 16000)
    return path
