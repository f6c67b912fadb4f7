"""Evaluation of a run as a whole: the measures, the rows that say what they mean, and the files."""

from __future__ import annotations

import csv

import pytest

import maskmotion as mm
from maskmotion.evaluation.bench import Bench
from maskmotion.evaluation.report import bounds, print_table, write_csv


@pytest.fixture(scope="module")
def bench(small_corpus, tmp_path_factory):
    return Bench(small_corpus, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rows(bench, quick_run):
    model = mm.Model.from_pretrained(quick_run)
    found = [{"row": "quick", **bench.model_measures(model)}]
    return found + bounds(found) + [{"row": name, **values} for name, values in bench.sanity_rows(model).items()]


def test_a_model_is_measured_in_every_way(rows):
    assert {
        "lift",
        "oracle_lift",
        "auroc_within",
        "gesture_accuracy",
        "fgd",
        "bc",
        "l1_diversity",
        "latent_error",
    } <= set(rows[0])
    assert 0.7 < rows[0]["lift"] < 1.3, "random masks"
    assert rows[0]["latent_error"] > 0.9, "six steps teach nothing"


def test_the_sanity_rows_come_out_as_they_must(rows):
    named = {row["row"]: row for row in rows}
    truth, frozen, mean = named["ground truth"], named["frozen first frame"], named["mean pose"]
    assert truth["fgd"] == pytest.approx(0, abs=1e-3)
    assert truth["gesture_accuracy"] > 0.8
    assert truth["amplitude"] == pytest.approx(1.0)
    assert mean["l1_diversity"] == pytest.approx(0, abs=1e-5)
    assert mean["gesture_accuracy"] <= 0.2
    assert frozen["fgd"] > truth["fgd"]
    assert named["chance"]["lift"] == 1.0 < named["oracle"]["lift"]


def test_generation_covers_every_held_out_frame(bench, quick_run):
    motions = bench.generate(mm.Model.from_pretrained(quick_run))
    assert [len(motion) for motion in motions] == [clip.frames for clip in bench.clips]


def test_the_table_and_the_csv_hold_every_row(rows, bench, tmp_path, capsys):
    print_table(rows, bench)
    printed = capsys.readouterr().out
    for word in (
        "ground truth",
        "chance",
        "oracle",
        "maskmotion-v1",
        "planted-v1-small",
        bench.extractor.fingerprint[:12],
    ):
        assert word in printed
    with write_csv(tmp_path / "results.csv", rows).open() as file:
        read = list(csv.DictReader(file))
    assert [row["row"] for row in read] == [row["row"] for row in rows]
    assert float(read[0]["fgd"]) == rows[0]["fgd"]


def test_a_split_without_clips_says_what_to_do(small_corpus):
    with pytest.raises(ValueError, match="try --split validation"):
        Bench(mm.Corpus("mine", small_corpus.train))
