"""Every example runs from top to bottom, in its own folder, at a few steps."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import maskmotion as mm

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the examples leave their files; later ones find the runs of earlier ones, as a reader's would."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run an example by its number with --quick; returns what it printed."""

    def run_example(number: str) -> str:
        (script,) = EXAMPLES.glob(f"{number}_*.py")
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [script.name, "--quick"])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    yield run_example
    mm.unregister("masker", "loudest")
    mm.unregister("generator", "folded")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_opens_with_what_it_is_what_it_needs_and_how_long_it_takes(script):
    first, blank, needs, takes = script.read_text().split('"""')[1].strip().split("\n")
    assert first.endswith(".")
    assert blank == ""
    assert needs.startswith("Needs ")
    assert takes.startswith("Takes ")


def test_01_generate(run, folder):
    assert "gesture.npz 900 frames" in run("01")
    takes = [np.load(folder / name)["poses"] for name in ("gesture.npz", "gesture-1.npz", "gesture-2.npz")]
    assert {take.shape for take in takes} == {(900, 165)}
    assert not np.array_equal(takes[1], takes[2])


def test_02_train_tokenizer(run):
    told = run("02")
    assert all(f"{part}: perplexity" in told for part in ("face", "upper", "hands", "lower"))
    assert "3 of 3 layers, held-out motion: face" in told


def test_03_train_preset(run, folder):
    told = run("03")
    assert "'masker': " in told and "'generator.semantic': 1.0" in told
    assert "step 4: held-out loss " in told
    assert (folder / "runs/queried-quick/curves.png").stat().st_size > 10_000


def test_04_ablate_masking(run):
    lines = run("04").splitlines()
    numbers = {line[:24].strip(): [float(number) for number in line[24:].split()] for line in lines[1:-1]}
    assert list(numbers) == ["random masks", "in spans", "loss-based", "speech-queried", "speech-queried, L_sem"]
    assert all(len(row) == 2 for row in numbers.values())
    assert "One seed, no interval" in lines[-1]


def test_05_custom_masker(run):
    assert "trained with Loudest" in run("05")


def test_06_custom_generator(run, folder):
    assert "weights in the heads alone" in run("06")
    assert mm.Recipe.model_validate_json((folder / "runs/folded-quick/recipe.json").read_text()).generator.layers == 3


def test_07_without_recipes(run, folder):
    assert "gesture.npz 900 frames, for the 900 of" in run("07")
    source = (EXAMPLES / "07_without_recipes.py").read_text()
    assert not any(word in source.split('"""')[2] for word in ("preset", "Recipe", "register", "Spec(", "mm.train"))


def test_08_look_at_masks(run, folder):
    assert run("08").strip() == "masks.png"
    assert (folder / "masks.png").stat().st_size > 20_000


def test_09_hints(run, folder):
    told = run("09")
    assert "poses: 6780 numbers given, 0 of them changed" in told
    assert "trans: 6 numbers given, 0 of them changed" in told
    assert (folder / "hints.png").stat().st_size > 20_000
    assert mm.Hints.read(folder / "hints.npz").frames == 240
