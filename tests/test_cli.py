"""The command line: the whole way on a small corpus, and errors that fit in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from maskmotion.cli import app, parse_changes

QUICK = [f"training.{stage}.steps=2" for stage in ("tokenizer", "root", "generator")]


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_train_generate_evaluate(tmp_path, speech_file):
    folder, data = str(tmp_path / "run"), ["--data", "planted-v1-small"]
    done = run("train", "tiny", *QUICK, "masker=span", "masker.length=5", *data, "--run", folder, "--quiet")
    assert done.exit_code == 0
    assert "held out: " in done.output
    out = tmp_path / "out.npz"
    done = run("generate", folder, str(speech_file), str(out), "--variants", "2", "--temperature", "0.8", "--quiet")
    assert done.exit_code == 0
    assert (tmp_path / "out-1.npz").exists()
    assert "out-2.npz: 75 frames, 2.50 s" in done.output.replace("\n", "")


def test_list_shows_every_kind():
    output = run("list").output
    for name in ("tiny", "rvq", "speech_queried", "transcript", "preset", "generator"):
        assert name in output


def test_changes_are_json_or_plain_strings():
    assert parse_changes(["masker=span", "seed=1", 'masker={"name": "random", "ratio": 0.5}', "a.b=[1, 2]"]) == {
        "masker": {"name": "random", "ratio": 0.5},
        "seed": 1,
        "a.b": [1, 2],
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "tiyn"],
            "no preset named 'tiyn'; known: echomask, echomask-release, emage, "
            "emage-2024-audio, emage-2024-text, emage-release, tiny; did you mean 'tiny'?",
        ),
        (["train", "tiny", "masker.ratoi=1"], "masker.ratoi: Extra inputs are not permitted; did you mean 'ratio'?"),
        (["train", "tiny", "--data", "/no/such/folder"], "no data at /no/such/folder"),
        (["generate", "/no/such/run", "a.wav", "b.npz"], "no folder /no/such/run"),
        (["train", "tiny", "--stages", "tokenzier"], "stages of tiny are tokenizer, root, generator"),
    ],
)
def test_a_users_mistake_is_one_message_without_a_traceback(arguments, words):
    done = subprocess.run(
        [sys.executable, "-m", "maskmotion", *arguments], capture_output=True, text=True, check=False, cwd="/tmp"
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_change_without_a_value_is_refused():
    done = CliRunner().invoke(app, ["train", "tiny", "masker.ratio"])
    assert done.exit_code == 2
    assert "path=value" in done.output
