"""`maskmotion evaluate`: files of anyone's model, the leakage guard, what a table carries, and which may be joined."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import maskmotion as mm
from maskmotion.cli import main
from maskmotion.data.beat2 import recordings
from maskmotion.data.planted import planted_root
from maskmotion.evaluation.bench import Bench, mean_speeds
from maskmotion.evaluation.files import Later, corpus_of_files, file_of, holds_files, read_files
from maskmotion.evaluation.leakage import guard, learned_from, overlapping, span
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.evaluation.report import Table
from maskmotion.evaluation.sanity import NEEDED, halves
from maskmotion.motion.files import write_motion
from maskmotion.training.runs import STATE

SMALL = "planted-v1-small"


@pytest.fixture(scope="module")
def root() -> Path:
    return planted_root(name=SMALL)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A cache of features and extractors; the corpus stays where it is."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bench(small_corpus, cache) -> Bench:
    return Bench(small_corpus, cache=cache)


@pytest.fixture(scope="module")
def generated(bench, quick_run) -> list[torch.Tensor]:
    return bench.generate(mm.Model.from_pretrained(quick_run))


@pytest.fixture(scope="module")
def outputs(bench, generated, tmp_path_factory) -> Path:
    """What a model generates for the test split, as files."""
    folder = tmp_path_factory.mktemp("outputs")
    for clip, motion in zip(bench.clips, generated):
        mm.Clip(clip.name, motion).save(folder / f"{clip.name}.npz")
    return folder


@pytest.fixture
def call(monkeypatch, capsys, cache, request):
    """Run the command line; returns what it printed, or its error."""
    extractors = request.getfixturevalue("bench").extractors
    monkeypatch.setattr(Bench, "_extractor", lambda self, reads: extractors[reads])

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["maskmotion", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr()
        return told.out if left.value.code in (0, None) else told.err

    return run


# Files


def test_files_of_a_model_give_the_numbers_of_the_model(bench, generated, outputs):
    corpus, notes = corpus_of_files(SMALL, "test", outputs)
    motions, told = read_files(outputs, corpus.test)
    assert notes == told == []
    assert [clip.name for clip in corpus.test] == [clip.name for clip in bench.clips]
    direct, read = bench.motion_measures(generated), bench.motion_measures(motions)
    del direct["foot_sliding"], read["foot_sliding"]  # files hold no contacts: they are computed
    assert read == pytest.approx(direct, rel=1e-2, abs=1e-3)


def test_the_training_split_is_read_only_when_somebody_looks(outputs, monkeypatch):
    corpus, _ = corpus_of_files(SMALL, "test", outputs)
    monkeypatch.setattr("maskmotion.evaluation.files.load_split", lambda *_: pytest.fail("it was read"))
    assert len(corpus.test) > 0
    clips = [mm.Clip(name, torch.zeros(2, 437)) for name in ("a", "b")]
    later = Later(lambda: clips)
    assert later[0] is clips[0] and later[-1] is clips[1] and len(later) == 2
    assert [clip.name for clip in later] == ["a", "b"] and later[:1] == clips[:1]


def test_missing_and_foreign_files_and_other_lengths_are_told(outputs, tmp_path):
    first, *others = sorted(path.stem for path in outputs.glob("*.npz"))
    shutil.copy(outputs / f"{first}.npz", tmp_path / f"{first}_output.npz")
    shutil.copy(outputs / f"{first}.npz", tmp_path / "something.npz")
    assert holds_files(tmp_path) and file_of(tmp_path, first) == tmp_path / f"{first}_output.npz"
    corpus, notes = corpus_of_files(SMALL, "test", tmp_path)
    assert [clip.name for clip in corpus.test] == [first]
    assert f"{len(others)} of {len(others) + 1} recordings have no file" in notes[0]
    assert notes[1] == "1 files belong to no recording of the split: something.npz"
    short = 100
    arrays = {"poses": torch.zeros(short, 165), "trans": torch.zeros(short, 3), "expressions": torch.zeros(short, 100)}
    write_motion(tmp_path / f"{first}_output.npz", **{name: value.numpy() for name, value in arrays.items()})
    _, told = read_files(tmp_path, corpus.test)
    assert told == [f"{first}_output.npz has 100 frames, its recording {corpus.test[0].frames}: cut to the shorter"]
    with pytest.raises(ValueError, match="no file for a recording of the split 'validation'; it asks for"):
        corpus_of_files(SMALL, "validation", tmp_path)


def test_the_command_measures_files_and_saves_all_that_numbers_depend_on(call, outputs, tmp_path, bench):
    out = tmp_path / "table.csv"
    told = call(outputs, "--data", SMALL, "--out", out)
    for word in (
        outputs.name,
        "ground truth",
        "other half of the clips",
        "mean pose",
        "noise on ground truth",
        "maskmotion-v1",
    ):
        assert word in told
    assert "absent: mse, lvd: it needs your SMPL-X model file" in told
    saved = json.loads(out.with_suffix(".json").read_text())
    about = saved["about"]
    assert (about["protocol"], about["clips"], about["split"]) == ("maskmotion-v1", len(bench.clips), "test")
    assert about["frames"] == sum(clip.frames for clip in bench.clips)
    assert about["measured_on"] == bench.measured_on
    assert about["factors"]["mse"] == 1e8
    assert {"python", "torch", "numpy", "scipy", "librosa", "maskmotion"} == set(about["versions"])
    assert about["extractors"]["fgd"]["fingerprint"] == bench.extractor.fingerprint
    assert saved["absent"]["mse"].startswith("it needs")
    assert saved["rows"][0]["row"] == outputs.name
    assert out.read_text().startswith("row,")


def test_another_protocol_prints_its_own_columns_with_their_factors(call, outputs, tmp_path):
    told = call(outputs, "--data", SMALL, "--protocol", "evaltools-v1", "--out", tmp_path / "t.csv")
    assert "FGD x 10" in told and "jerk" not in told
    assert "absent: bc, l1_diversity, mse, lvd, srgr: it needs your SMPL-X model file" in told


# Leakage


def test_names_of_clips_tell_their_frames():
    assert span("x")[:2] == ("x", 0)
    assert span("x[10:90]") == ("x", 10, 90)
    assert span("x[10:90][5:20]") == ("x", 15, 30)
    learned = ["a", "b[0:100]", "c[200:300]"]
    assert overlapping(["a[5:6]", "b[99:120]", "b[100:120]", "c", "d", "c[0:200]"], learned) == [
        "a[5:6]",
        "b[99:120]",
        "c",
    ]


def test_a_run_says_what_it_learned_from_and_is_refused_on_it(quick_run, small_corpus):
    learned = learned_from(quick_run)
    assert set(learned.train) == {clip.name for clip in small_corpus.train}
    assert set(learned.validation) == {clip.name for clip in small_corpus.validation}
    assert guard([clip.name for clip in small_corpus.test], quick_run) == []
    assert "chose its best step by" in guard([clip.name for clip in small_corpus.validation], quick_run)[0]
    train = [clip.name for clip in small_corpus.train]
    with pytest.raises(ValueError, match=f"has learned from {len(train)} of the {len(train)} clips"):
        guard(train, quick_run)
    assert "LEAKED" in guard(train, quick_run, force=True)[0]


def test_a_run_on_the_tokenizers_of_another_has_learned_from_both(quick_recipe, small_corpus, quick_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(quick_run, other)
    state = json.loads((other / STATE).read_text())
    state["clips"] = {"train": ["somebody"], "validation": ["else"]}
    (other / STATE).write_text(json.dumps(state))
    mm.train(quick_recipe, small_corpus, tmp_path / "run", tokenizer=other, only=["tokenizer"])
    learned = learned_from(tmp_path / "run")
    assert "somebody" in learned.train and small_corpus.train[0].name in learned.train
    assert "else" in learned.validation


def test_a_run_that_says_nothing_is_told(quick_run, tmp_path, small_corpus):
    mm.Model.from_pretrained(quick_run).save_pretrained(tmp_path)
    (note,) = guard([clip.name for clip in small_corpus.test], tmp_path)
    assert "does not say which clips it learned from" in note


def test_the_command_refuses_training_clips(call, quick_run, outputs, root, tmp_path):
    assert "has learned from" in call(quick_run, "--data", SMALL, "--split", "train")
    name = recordings(root, "train")[0].id
    source = next(outputs.glob("*.npz"))
    shutil.copy(source, tmp_path / f"{name}.npz")
    assert "is what models learn from" in call(tmp_path, "--data", SMALL, "--split", "train")
    told = call(tmp_path, "--data", SMALL, "--split", "train", "--force", "--trained-by", quick_run)
    assert "LEAKED: measured on the training split" in told
    assert f"LEAKED: {quick_run} has learned from 1 of these clips" in " ".join(told.split())


# Tables


@pytest.fixture(scope="module")
def table(bench, generated) -> Table:
    rows = [{"row": "mine", **bench.motion_measures(generated)}]
    rows += [{"row": name, **values} for name, values in bench.sanity_rows().items()]
    return Table.of(bench, rows, recipes={"mine": "abc"})


def changed(table: Table, name: str, **about) -> Table:
    rows = [{**row, "row": name} if row["row"] == "mine" else row for row in table.rows]
    return Table({**table.about, **about}, rows, table.absent, {name: "abc"})


def test_a_table_without_its_sanity_rows_is_not_printed(table):
    for name in NEEDED:
        with pytest.raises(ValueError, match=f"has no {name}"):
            Table(table.about, [row for row in table.rows if row["row"] != name]).show()


def test_tables_survive_saving_and_are_joined_with_their_sanity_rows_once(table, tmp_path):
    csv, beside = table.save(tmp_path / "mine.csv")
    assert csv.is_file() and Table.read(beside).about == dict(table.about)
    both = Table.read(beside).joined(changed(table, "yours"))
    assert [row["row"] for row in both.rows] == ["mine", "yours", *(row["row"] for row in table.rows[1:])]
    assert both.recipes == {"mine": "abc", "yours": "abc"}
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="is no table of `maskmotion evaluate`"):
        Table.read(tmp_path / "other.json")


@pytest.mark.parametrize("key", ["protocol", "measured_on", "extractors", "body_model"])
def test_numbers_that_do_not_belong_together_refuse_to_share_a_table(table, key):
    with pytest.raises(ValueError, match=rf"do not belong in one table; they differ in\n  {key}: "):
        table.joined(changed(table, "yours", **{key: "other"}))


def test_one_row_with_two_numbers_is_refused(table):
    rows = [{**row, "fgd": -1.0} if row["row"] == "mean pose" else row for row in table.rows]
    with pytest.raises(ValueError, match="both tables have a row 'mean pose', with other numbers"):
        table.joined(Table(table.about, rows))


def test_the_command_joins_saved_tables(call, table, tmp_path):
    table.save(tmp_path / "a.csv")
    changed(table, "yours").save(tmp_path / "b.csv")
    changed(table, "theirs", measured_on="0" * 64).save(tmp_path / "c.csv")
    told = call(tmp_path / "a.json", tmp_path / "b.json", "--out", tmp_path / "both.csv")
    assert "mine" in told and "yours" in told and (tmp_path / "both.json").is_file()
    assert "do not belong in one table" in call(tmp_path / "a.json", tmp_path / "c.json")


def test_halves_are_every_other_clip_or_the_two_halves_of_one():
    clips = [torch.full((4, 437), float(number)) for number in range(3)]
    first, second = halves(clips)
    assert [int(clip[0, 0]) for clip in first] == [0, 2] and [int(clip[0, 0]) for clip in second] == [1]
    first, second = halves([torch.arange(5.0)[:, None].expand(-1, 437)])
    assert (first[0][:, 0].tolist(), second[0][:, 0].tolist()) == ([0, 1], [2, 3, 4])


def test_the_sanity_rows_order_as_they_must(table):
    named = {row["row"]: row for row in table.rows}
    assert named["ground truth"]["fgd"] == pytest.approx(0, abs=1e-6)
    assert 0 < named["other half of the clips"]["fgd"] < named["mean pose"]["fgd"]
    assert named["noise on ground truth"]["jerk"] > 10 * named["ground truth"]["jerk"]
    assert named["mean pose"]["jerk"] == pytest.approx(0, abs=1e-3)
    assert set(named["other half of the clips"]) == {
        "row",
        *(f"{n}{e}" for n in ("fgd", "fmd", "fed") for e in ("", "_samples")),
    }


def test_mean_speeds_are_55_positive_numbers(tmp_path):
    import numpy as np

    np.save(tmp_path / "speeds.npy", np.ones(54))
    with pytest.raises(ValueError, match="55 positive numbers"):
        mean_speeds(tmp_path / "speeds.npy", None)
    with pytest.raises(FileNotFoundError, match="no file of mean joint speeds"):
        mean_speeds(tmp_path / "none.npy", None)
    assert mean_speeds(None, tmp_path) is None


def test_a_recipes_hash_does_not_know_its_seed(quick_recipe):
    assert recipe_hash(quick_recipe) == recipe_hash(quick_recipe.but({"seed": 7}))
    assert recipe_hash(quick_recipe) != recipe_hash(quick_recipe.but({"masker.ratio": 0.4}))
