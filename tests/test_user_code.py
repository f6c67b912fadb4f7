"""The code that the issue promises to users: it runs as it stands, top to bottom."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import maskmotion as mm

CODE = '''\
import maskmotion as mm

@mm.register("loudest")
class Loudest(mm.Masker):
    """Hide the frames where speech is loudest."""
    def scores(self, context):
        return context.conditions["rhythm"].features[..., 0]

recipe = mm.preset("tiny").but({"masker": mm.Spec("loudest", ratio=0.5)})
model = mm.train(recipe, data="planted", run="runs/loudest")
clip = model.generate("speech.wav", speaker=0, rng=mm.seed(0))
clip.save("gesture.npz")
'''
QUICK = {
    'data="planted"': 'data="planted-v1-small"',
    'recipe = mm.preset("tiny")': 'few = {f"training.{s}.steps": 4 for s in mm.preset("tiny").training}\n'
    'recipe = mm.preset("tiny").but(few)',
}
FRAMES = 75  # 2.5 s at 30 frames a second


@pytest.fixture
def project(tmp_path, speech_file) -> Path:
    """A user's folder: a speech.wav and nothing else."""
    shutil.copy(speech_file, tmp_path / "speech.wav")
    return tmp_path


def assert_gesture_file(path: Path) -> None:
    """The npz that Blender's SMPL-X add-on opens, one pose a frame of the speech."""
    with np.load(path) as file:
        arrays = dict(file)
    assert arrays["poses"].shape == (FRAMES, 165)
    assert arrays["expressions"].shape == (FRAMES, 100)
    assert arrays["trans"].shape == (FRAMES, 3)
    assert all(np.isfinite(arrays[name]).all() for name in ("poses", "expressions", "trans"))
    assert np.abs(np.diff(arrays["poses"], axis=0)).max() > 0, "somebody moves"


def test_the_code_of_the_issue_in_a_few_steps(project, monkeypatch):
    monkeypatch.chdir(project)
    code = CODE
    for ours, quick in QUICK.items():
        assert code.count(ours) == 1
        code = code.replace(ours, quick)
    (project / "loudest.py").write_text(code)
    try:
        left = runpy.run_path("loudest.py")
        assert type(left["model"].generator.masker) is left["Loudest"]
        assert left["clip"].frames == FRAMES
        assert_gesture_file(project / "gesture.npz")
        again = mm.Model.from_pretrained("runs/loudest").generate("speech.wav", speaker=0, rng=mm.seed(0))
        assert (again.motion == left["clip"].motion).all(), "what was saved is what was trained"
    finally:
        mm.unregister("masker", "loudest")


@pytest.mark.slow
def test_the_code_of_the_issue_verbatim(project):
    (project / "loudest.py").write_text(CODE)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "loudest.py"], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_gesture_file(project / "gesture.npz")
    assert (project / "runs" / "loudest" / "model.safetensors").is_file()
