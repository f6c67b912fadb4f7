"""The shape annotations are really checked in the tests, and cost users nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.strategies import select
from maskmotion.types import Batch


def test_a_wrong_shape_is_caught():
    with pytest.raises(TypeCheckError):
        matrix_from_6d(torch.zeros(4, 5))
    with pytest.raises(TypeCheckError):
        select(torch.zeros(2, 5), torch.ones(3, 5, dtype=torch.bool), 0.5, 0.5, 0.0, torch.Generator())


def test_records_are_checked_too():
    with pytest.raises(TypeCheckError):
        Batch(motion=torch.zeros(2, 8, 437), valid=torch.ones(2, 9, dtype=torch.bool))


def test_users_need_no_jaxtyping():
    code = (
        "import sys; sys.modules['jaxtyping'] = None\n"
        "import maskmotion as mm; recipe = mm.preset('tiny'); mm.Model.build(recipe); print('built')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "built", done.stderr
