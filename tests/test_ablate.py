"""Ablation tables: what a table is, what its numbers say, and that it survives being killed anywhere."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hubert_folder import write_hubert
from typer.testing import CliRunner

import maskmotion as mm
from maskmotion.ablations.caveats import caveats, uses_labels
from maskmotion.ablations.cells import Setting, own_modules
from maskmotion.ablations.jobs import Job, _seconds
from maskmotion.ablations.papers import TABLES
from maskmotion.ablations.processes import Task, only_one, run_apart
from maskmotion.ablations.report import cells, latex, markdown, spelled_interval, summary, training
from maskmotion.ablations.results import Results
from maskmotion.ablations.runner import estimate
from maskmotion.ablations.table import Table, load_table, tokenizer_recipe
from maskmotion.cli import app
from maskmotion.data.windows import WindowDataset, split_time
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.evaluation.shuffled import partners, shuffled_aurocs, shuffled_batches
from maskmotion.presets import tiny
from maskmotion.testing import example_batch, example_generator
from maskmotion.views.ablation import plot_rows, plot_training

FEW = {
    **{f"training.{stage}.steps": 6 for stage in ("tokenizer", "root", "generator")},
    **{f"training.{stage}.checkpoint_every": 2 for stage in ("tokenizer", "root", "generator")},
    **{f"training.{stage}.batch_size": 8 for stage in ("tokenizer", "root", "generator")},
    "training.generator.validate_every": 3,
}
ROWS = {
    "random": {},
    "queried": {"masker": {"name": "speech_queried", "ratio": 0.5}, "generator.semantic": 1.0},
}
SMALL = {"name": "small", "base": "tiny", "changes": FEW, "rows": ROWS, "baseline": "random"}


# ------------------------------------------------------------------------------------------------------ tables as data


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_the_librarys_tables_is_a_recipe_of_its_own_at_every_scale(name):
    for scale in ("tiny", "small", "full"):
        recipes = TABLES[name].resolve(scale)
        assert len({recipe_hash(recipe) for recipe in recipes.values()}) == len(recipes) >= 5
    assert any(recipe == mm.preset(str(TABLES[name].base), "full") for recipe in recipes.values()), (
        "one row is the preset"
    )


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """What the rows hear with: a small HuBERT with random weights."""
    return {"conditioners.speech.speech.checkpoint": str(write_hubert(tmp_path_factory.mktemp("hubert")))}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_the_librarys_tables_learns(name, hubert, small_corpus):
    """A step of each: losses that are numbers, and gradients in the network."""
    clip, _ = split_time(small_corpus.train[0], 5)
    changes = hubert if TABLES[name].base == "echomask" else {}
    for label, recipe in TABLES[name].resolve("tiny", changes).items():
        model = mm.Model.build(recipe)
        model.body.set_statistics([clip.motion])
        model.body.train()(WindowDataset([clip], 64, 64).batch([0, 1]))  # puts the codebooks on data
        batch = WindowDataset([clip], 64, 64, model.extractors, audio=model.reads_audio).batch([0, 1])
        losses = model.generator.train()(batch, teacher=model.generator, progress=0.5, stage="generator")
        assert all(loss.isfinite() for loss in losses.values()), label
        assert ("semantic" in losses) == uses_labels(recipe), label
        sum(losses.values()).backward()
        learning = [p.grad for p in model.generator.parameters() if p.requires_grad and p.grad is not None]
        assert learning and all(grad.isfinite().all() for grad in learning), label


def test_the_rows_of_echomasks_table_2_differ_in_what_the_paper_says():
    rows = TABLES["echomask-table2"].resolve("tiny")
    maskers = [None if row.masker is None else row.masker.name for row in rows.values()]
    assert maskers == [None, None, "random", "loss_based", *["speech_queried"] * 7]
    aligned = [row.conditioners["speech"].name for row in rows.values()]
    assert aligned == ["speech"] * 5 + ["aligned"] * 6
    assert [uses_labels(row) for row in rows.values()] == [False] * 10 + [True]
    assert [row.tokenizer.quantizer.arguments["num_layers"] == 1 for row in rows.values()] == [True] + [False] * 10
    weights = [rows[label].conditioners["speech"].arguments["frame"] for label in ("MAM (no L_align)", "MAM (ours)")]
    assert weights == [0.0, 0.1]
    *_, last = rows.values()
    assert last.masker.arguments["hard"] == mm.Linear(0.0, 0.3)
    assert rows["MAM (ours)"].masker.arguments["hard"] is None, "strictly by rank"


def test_paper_numbers_give_directions_against_the_row_that_each_is_compared_with():
    table = TABLES["echomask-table2"]
    assert table.other("VQ-VAE") is None
    assert table.other("SQA (ours)") == "SQA (random mask)"
    assert table.other("MAM (no L_align)") == "MAM (ours)"
    assert set(table.paper) == set(table.rows) == set(table.readings)


def test_tokenizers_are_shared_by_the_rows_whose_plan_is_the_same():
    for name, sets in {"echomask-table2": 2, "echomask-figure12": 1, "emage-table6": 3}.items():
        rows = TABLES[name].resolve("tiny").values()
        assert len({recipe_hash(tokenizer_recipe(row)) for row in rows}) == sets
    one = tiny()
    assert tokenizer_recipe(one.but({"masker": "span", "generator.dim": 32, "seed": 3})) == tokenizer_recipe(one)
    for path, value in {"tokenizer.width": 32, "body.parts": "whole", "training.tokenizer.steps": 5}.items():
        assert tokenizer_recipe(one.but({path: value})) != tokenizer_recipe(one)


def test_a_recipes_name_does_not_depend_on_its_seed():
    assert recipe_hash(tiny()) == recipe_hash(tiny().but({"seed": 4})) != recipe_hash(tiny().but({"masker": "span"}))


def test_a_table_is_a_json_file_or_a_dict(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({key: value for key, value in SMALL.items() if key != "name"}))
    table = load_table(path)
    assert table.name == "mine"
    assert table.resolve() == load_table(SMALL).resolve()
    objects = {"random": {}, "queried": {"masker": mm.Spec("speech_queried", ratio=0.5), "generator.semantic": 1.0}}
    assert load_table(SMALL | {"rows": objects}).resolve() == table.resolve()
    assert load_table(SMALL | {"base": tiny()}).resolve() == table.resolve()


def test_a_value_can_be_what_the_base_has_elsewhere():
    rows = {"a": {}, "b": {"generator.layers": {"from": "generator.heads"}}}
    table = load_table(SMALL | {"rows": rows, "baseline": "a"})
    rows = table.resolve()
    assert rows["b"].generator.arguments["layers"] == rows["a"].generator.arguments["heads"]
    with pytest.raises(mm.RecipeError, match=r"row 'b': .*no such path"):
        load_table(table.model_dump() | {"rows": {"a": {}, "b": {"masker": {"from": "masker.other"}}}}).resolve()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"one": {}}}, "two at least, got 1"),
        ({"rows": {"A b": {}, "a-b": {}}}, "differ in letters and digits"),
        ({"baseline": "rnadom"}, "baseline: no row 'rnadom'; rows: random, queried"),
        ({"against": {"queried": "other"}}, "against: no row 'other'"),
        ({"paper": {"other": {"fgd": 1.0}}}, "paper: no row 'other'"),
        ({"rwos": {}}, "rwos: .*did you mean 'rows'"),
        ({"expected": {"queried": {"fgd": "better"}}}, "'higher' or 'lower'"),
    ],
)
def test_a_wrong_table_is_told_what_is_wrong(change, message):
    with pytest.raises(mm.RecipeError, match=message):
        load_table(SMALL | change)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": {}, "b": {"masker.ratoi": 0.5}}, "row 'b': masker.ratoi: .*did you mean 'ratio'"),
        ({"a": {}, "b": {"seed": 3}}, "row 'b': seed is not a row's to change"),
    ],
)
def test_a_wrong_row_is_told_by_its_label(rows, message):
    with pytest.raises(mm.RecipeError, match=message):
        load_table(SMALL | {"rows": rows, "baseline": None}).resolve()


def test_what_is_no_table_is_told(tmp_path):
    with pytest.raises(mm.RecipeError, match="no table 'echomask-table3'; tables of the library: echomask-table2"):
        load_table("echomask-table3")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(mm.RecipeError, match=r"a\.json is no JSON file"):
        load_table(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(mm.RecipeError, match="an object with"):
        load_table(tmp_path / "a.json")
    with pytest.raises(mm.RecipeError, match="has no scale 'small'"):
        load_table(SMALL).resolve("small")


# ---------------------------------------------------------------------------------------------------- numbers and texts


def made_up(**changes) -> Results:
    """Results of four rows by three seeds, with numbers whose answers are known."""
    rows = {"base": {}, "better": {"masker": "span"}, "same": {"generator.layers": 3}, "taught": ROWS["queried"]}
    table = Table(
        name="made-up",
        base="tiny",
        rows=rows,
        baseline="base",
        paper={"base": {"fgd": 5.0, "bc": 1.0, "mse": 1.0}, "better": {"fgd": 6.0, "bc": 2.0, "mse": 2.0}},
        expected={"same": {"fgd": "higher"}, "taught": {"fgd": "lower"}},
        readings={"base": "as it is"},
        caveats=("One of its own.",),
    )
    shift = {"base": 0.0, "better": -1.0, "same": 0.0, "taught": -2.0}
    noise = {
        "base": (0.1, -0.2, 0.05),
        "better": (0.12, -0.21, 0.07),
        "same": (-0.2, 0.3, 0.1),
        "taught": (0.1, -0.2, 0.04),
    }
    measured = {
        label: {
            seed: {"fgd": 9.0 + shift[label] + one, "bc": 0.5 + 0.1 * seed, "lift": 1.0 + 0.01 * seed, "seconds": 60.0}
            for seed, one in enumerate(noise[label])
        }
        for label in rows
    }
    curve = [{"stage": "generator", "step": step, "loss": 4.0 - step / 10, "lift": 1.0} for step in (5, 10)]
    recipes = table.resolve()
    about = {
        **{
            "protocol": "maskmotion-v1",
            "data": "planted-v1",
            "fingerprint": "1234",
            "split": "test",
            "measured_on": "5678",
        },
        **{
            "extractors": {"fgd": {"fingerprint": "abcdef" * 10, "origin": "made up"}},
            "absent": {"mse": "no SMPL-X file"},
        },
        **{"fps": 30, "frames": 1800, "clips": 2, "versions": {"torch": "2"}},
        "recipes": {recipe_hash(recipe): {"hears": ["mel"]} for recipe in recipes.values()},
    }
    found = Results(
        table=table,
        recipes=recipes,
        cells=measured,
        curves={label: dict.fromkeys(row, curve) for label, row in measured.items()},
        sanity={"chance": {"lift": 1.0}, "ground truth": {"fgd": 0.0, "bc": 0.7}},
        reconstruction=dict.fromkeys(rows, "tokenizer reconstruction"),
        about=about,
        weights=dict.fromkeys(rows, 745_000),
        folder=Path("nowhere"),
    )
    return replace(found, **changes)


def test_differences_are_paired_by_seed_and_have_a_direction_where_the_interval_excludes_zero():
    results = made_up()
    better, same = results.difference("better", "fgd"), results.difference("same", "fgd")
    assert better.mean == pytest.approx(-1.0, abs=0.02) and better.direction == -1
    assert better.half < 0.1 * results.interval("better", "fgd").half, "the seeds' own effect cancels"
    assert same.direction == 0
    assert results.difference("base", "fgd") is None
    assert results.difference("better", "bc").direction == 0, "without any spread nothing is told"


def test_agreement_with_the_paper_is_told_as_found():
    results = made_up()
    assert results.verdict("better", "fgd") == "disagrees", "the paper's rose, ours fell"
    assert results.verdict("taught", "fgd") == "agrees"
    assert results.verdict("same", "fgd") == "cannot tell"
    assert results.verdict("better", "mse") == "cannot tell", "it is not measured"
    assert results.verdict("better", "lift") is None and results.verdict("base", "fgd") is None
    assert ("better", "mse") in results.compared and ("base", "fgd") not in results.compared


def test_the_report_holds_values_differences_agreement_sanity_and_where_all_comes_from():
    text, value = markdown(made_up()), spelled_interval(made_up().interval("better", "fgd"))
    assert f"| better | {spelled_interval(made_up().interval('better', 'lift'))} | {value} |" in text
    difference = spelled_interval(made_up().difference("better", "fgd"), "+")
    assert f"| better | base | +0.000 ± 0.000 | {difference} **lower, better**" in text
    for said in ("**lower, better**", "1 agrees, 1 disagrees, 2 cannot tell", "ground truth", "One of its own.", "as it is",
                 "Not measured here: face MSE.", "extractor abcdefabcdefabcd", "fingerprint 1234",
                 recipe_hash(made_up().recipes["same"]),
                 '{"generator.layers": 3}', "3 seeds", "2 test clips", "maskmotion-v1"):  # fmt: skip
        assert said in text, said


def test_what_the_table_cannot_tell_names_data_scale_power_labels_and_clips():
    told = "\n".join(caveats(made_up()))
    for said in ("planted-v1 is synthetic", "0.7 million weights", "400 steps", "4.3 standard errors", "seed 0 for all",
                 "taught: L_sem trains on the very labels", "face MSE: no SMPL-X file", "equal steps"):  # fmt: skip
        assert said in told, said
    assert "base: L_sem" not in told
    one = made_up(cells={label: {0: row[0]} for label, row in made_up().cells.items()})
    assert "one seed has no interval" in "\n".join(caveats(one))
    longer = dict(made_up().recipes) | {"same": tiny().but({"training.generator.steps": 900})}
    assert "same has 900" in "\n".join(caveats(made_up(recipes=longer)))


def test_latent_errors_of_different_tokenizers_are_not_compared():
    rows = {
        label: {seed: cell | {"latent_error": 1.0 + seed} for seed, cell in row.items()}
        for label, row in made_up().cells.items()
    }
    several = dict(made_up().reconstruction) | {"same": "tokenizer reconstruction (same)"}
    assert any(
        line.startswith("Latent errors between rows") for line in caveats(made_up(cells=rows, reconstruction=several))
    )
    for plain in (made_up(cells=rows), made_up(reconstruction=several)):
        assert not any("Latent errors" in line for line in caveats(plain))


def test_span_masks_are_told_as_a_control_for_runs_as_long_as_theirs():
    rows = {
        label: {seed: cell | {"run_length": 5.0 + seed} for seed, cell in row.items()}
        for label, row in made_up().cells.items()
    }
    (told,) = [line for line in caveats(made_up(cells=rows)) if line.startswith("What better controls for")]
    assert "base 6.0, better 6.0" in told
    assert not any("controls for" in line for line in caveats(made_up())), "run lengths were not measured"


def test_measures_by_which_motion_that_hears_nothing_does_as_well_are_told():
    assert not any("hears nothing" in line for line in caveats(made_up()))
    frozen = made_up(sanity={"frozen first frame": {"fgd": 6.5, "bc": 0.1}, "chance": {"bc": 0.6}})
    (told,) = [line for line in caveats(frozen) if "hears nothing" in line]
    assert "FGD (frozen first frame 6.5, the best row 6.98)" in told and "BC (chance 0.6, the best row 0.6)" in told


def test_the_csv_files_have_a_line_a_cell_a_measure_and_a_validation():
    results = made_up()
    assert len(cells(results)) == 12 and cells(results)[4]["row"] == "better" and cells(results)[4]["seed"] == 1
    (line,) = [row for row in summary(results) if (row["row"], row["measure"]) == ("better", "fgd")]
    assert (line["against"], line["direction"], line["paper"], line["agreement"]) == (
        "base",
        "lower",
        "higher",
        "disagrees",
    )
    assert line["paper_difference"] == 1.0 and line["n"] == 3
    assert len(training(results)) == 24 and training(results)[0]["step"] == 5


def test_the_latex_table_is_whole():
    text = latex(made_up())
    assert text.count(r"\\") == 5 and r"\begin{tabular}{lrrrr}" in text
    assert r"better & $1.010 \pm 0.025$ & $7.993 \pm 0.4" in text


def test_the_pictures_are_drawn(tmp_path):
    assert plot_rows(tmp_path / "rows.png", made_up()).stat().st_size > 10_000
    assert plot_training(tmp_path / "training.png", made_up()).stat().st_size > 10_000
    with pytest.raises(ValueError, match="nothing was measured while training"):
        plot_training(tmp_path / "none.png", made_up(curves={}))


# ------------------------------------------------------------------------------------------------- what scores follow


class Reads(mm.Masker):
    """Scores are the motion's first column, or the speech's loudness."""

    def __init__(self, ratio: float = 0.5, what: str = "motion") -> None:
        super().__init__(ratio)
        self.what = what

    def scores(self, context):
        if self.what == "motion":
            return context.batch.motion[..., 0]
        frames = context.batch.valid.shape[1]
        return torch.nn.functional.adaptive_avg_pool1d(context.batch.audio.abs()[:, None], frames)[:, 0]


@pytest.fixture(scope="module")
def telling_clips():
    """Three clips in which both the first column of motion and loudness give the meaning away."""
    clips = []
    for number, frames in enumerate((96, 150, 64)):
        rng = torch.Generator().manual_seed(number)
        meaning = torch.rand(frames, generator=rng) > 0.6
        batch = example_batch(1, frames, number)
        motion = batch.motion[0].clone()
        motion[:, 0] = meaning + 0.1 * torch.randn(frames, generator=rng)
        audio = (0.1 + meaning.float()).repeat_interleave(534)[: round(frames * 16000 / 30)]
        clips.append(mm.Clip(f"clip {number}", motion, audio, labels={"semantic": meaning.float()}))
    return WindowDataset(clips, 30, 30, audio=True)


def test_partners_are_windows_of_other_clips_and_each_is_taken_once(telling_clips):
    names = [name for name, _ in telling_clips.batch(range(len(telling_clips))).source]
    partner = partners(telling_clips).tolist()
    assert sorted(partner) == list(range(len(telling_clips)))
    assert all(names[one] != names[other] for one, other in enumerate(partner))


@pytest.mark.parametrize("what", ["motion", "audio"])
def test_scores_lose_their_meaning_only_when_what_they_follow_is_shuffled(what, telling_clips):
    generator = example_generator()
    generator.masker = Reads(what=what)
    found = shuffled_aurocs(generator, telling_clips)
    kept = {"motion": "audio", "audio": "motion"}[what]
    assert found[f"auroc_within_shuffled_{kept}"] > 0.95 and found[f"auroc_shuffled_{kept}"] > 0.95
    assert abs(found[f"auroc_within_shuffled_{what}"] - 0.5) < 0.2
    generator.masker = None
    assert shuffled_aurocs(generator, telling_clips) == {}


def test_shuffling_moves_one_signal_and_leaves_labels_where_they_are(telling_clips):
    (own,) = telling_clips.batches(len(telling_clips))
    for what, moved, kept in (("audio", "audio", "motion"), ("motion", "motion", "audio")):
        (other,) = shuffled_batches(telling_clips, what, len(telling_clips))
        assert torch.equal(getattr(other, kept), getattr(own, kept))
        assert torch.equal(getattr(other, moved), getattr(own, moved)[partners(telling_clips)])
        assert torch.equal(other.labels["semantic"], own.labels["semantic"])


# ------------------------------------------------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small table in this process, two seeds."""
    return mm.ablate(SMALL, "planted-v1-small", tmp_path_factory.mktemp("tables") / "run", seeds=2, jobs=0, show=False)


def numbers(folder: Path) -> list[dict[str, str]]:
    """The cells of a table, without the seconds they took."""
    with (folder / "cells.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_table_leaves_all_of_its_files(finished):
    written = {path.name for path in finished.folder.iterdir() if path.is_file()}
    assert written >= {"table.md", "table.tex", "table.png", "training.png", "cells.csv", "summary.csv", "training.csv"}
    text = (finished.folder / "table.md").read_text()
    for said in (
        "tokenizer reconstruction",
        "mean pose",
        "frozen first frame",
        "other half of the clips",
        "oracle",
        "chance",
    ):
        assert f"| {said}" in text, said
    assert len(list((finished.folder / "tokenizers").iterdir())) == 1, "trained once for all cells"


@pytest.mark.slow
def test_a_cell_has_every_measure(finished):
    measured = finished.cells["queried"][1]
    assert {"lift", "auroc", "auroc_within", "auroc_shuffled_audio", "auroc_shuffled_motion", "run_length", "fgd",
            "latent_error", "gesture_accuracy", "seconds"} <= set(measured)  # fmt: skip
    assert [point["step"] for point in finished.curves["queried"][1]] == [3, 6]
    assert {"lift", "auroc", "auroc_within", "loss", "gesture_accuracy", "gesture_choice"} <= set(
        finished.curves["queried"][1][0]
    )
    assert measured != finished.cells["queried"][0], "seeds differ"
    assert finished.cells["random"][0]["lift"] != finished.cells["random"][1]["lift"], (
        "random masks by the seed as well"
    )


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_more_seeds_and_rows_are_added(finished, monkeypatch):
    done, perform = [], Job.perform
    monkeypatch.setattr(Job, "perform", lambda job: (done.append((job.kind, *job.recipes)), perform(job)))
    again = mm.ablate(SMALL, "planted-v1-small", finished.folder, seeds=2, jobs=0, show=False)
    assert not done and again.cells == finished.cells
    wider = SMALL | {"rows": ROWS | {"span": {"masker": "span", "masker.ratio": 0.5}}}
    more = mm.ablate(wider, "planted-v1-small", finished.folder, seeds=2, jobs=0, show=False)
    assert done == [("prepare", *wider["rows"]), ("cell", "span"), ("cell", "span")]
    assert {label: more.cells[label] for label in ROWS} == finished.cells
    assert "Nothing is left to train" in estimate(
        wider, "planted-v1-small", run=finished.folder, seeds=2, jobs=0, show=False
    )


@pytest.mark.slow
def test_results_that_do_not_belong_together_are_refused(finished):
    path = finished.folder / "cells" / next(iter(os.listdir(finished.folder / "cells"))) / "seed-0" / "result.json"
    kept = path.read_text()
    try:
        path.write_text(kept.replace(finished.about["extractors"]["fgd"]["fingerprint"], "0" * 64))
        with pytest.raises(mm.RunError, match="extractors: .*000000000000"):
            mm.ablate(SMALL, "planted-v1-small", finished.folder, seeds=2, jobs=0, show=False)
    finally:
        path.write_text(kept)


@pytest.mark.slow
def test_a_folder_of_something_else_is_refused(finished, tmp_path):
    with pytest.raises(mm.RunError, match="holds small on planted-v1-small; give another --run folder"):
        mm.ablate(SMALL | {"name": "other"}, "planted-v1-small", finished.folder, jobs=0, show=False)
    with pytest.raises(mm.RunError, match="holds small on planted-v1-small"):
        mm.ablate(SMALL, "planted", finished.folder, jobs=0, show=False)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(mm.RunError, match="is not empty and holds no table"):
        mm.ablate(SMALL, "planted-v1-small", tmp_path, jobs=0, show=False)
    with pytest.raises(ValueError, match="seeds=0"):
        mm.ablate(SMALL, "planted-v1-small", tmp_path / "new", seeds=0, jobs=0)


def test_two_runs_in_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("maskmotion.ablations.processes._PATIENCE", 0.1)
    with only_one(tmp_path), pytest.raises(mm.RunError, match="another ablation is at work"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass  # free again


def test_components_that_another_process_would_not_know_are_told(monkeypatch):
    mm.register("reads", Reads)
    try:
        recipe = tiny().but({"masker": "reads"})
        assert own_modules([tiny()], apart=True) == ()
        assert own_modules([recipe], apart=True) == (Reads.__module__,), "a module that can be imported"
        monkeypatch.setattr(Reads, "__module__", "__main__")
        assert own_modules([recipe], apart=False) == ()
        with pytest.raises(mm.RunError, match="'reads' of __main__: put the class in a module .* jobs=0"):
            own_modules([recipe], apart=True)
    finally:
        mm.unregister("masker", "reads")


def test_every_seed_can_train_tokenizers_of_its_own(tmp_path):
    recipes = load_table(SMALL).resolve()
    shared = Setting(tmp_path, "planted", 3).plan(recipes, apart=True)
    own = Setting(tmp_path, "planted", 3, own_tokenizers=True).plan(recipes, apart=True)
    assert len(shared.tokenizers) == 1 and len(own.tokenizers) == 3
    assert [task.job.recipe.seed for task in own.tokenizers.values()] == [0, 1, 2]
    assert {row[2].job.tokenizers for row in own.cells.values()} == {list(own.tokenizers.values())[2].job.folder}
    assert not {row[0].job.folder for row in own.cells.values()} & {row[0].job.folder for row in shared.cells.values()}
    cells_of = [(task.job.recipe.seed, *task.job.recipes) for task in shared.tasks if task.job.kind == "cell"]
    assert cells_of == [(seed, label) for seed in range(3) for label in ROWS], "a seed of every row before the next"


def test_seconds_are_added_up_over_stages_and_interruptions(tmp_path):
    rows = [
        ("root", 10, 5.0),
        ("generator", 10, 2.0),
        ("generator", 20, 4.0),
        ("generator", 30, 1.5),
        ("generator", 40, 3.0),
    ]
    lines = [json.dumps({"stage": stage, "step": step, "seconds": seconds}) for stage, step, seconds in rows]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert _seconds(tmp_path) == 5.0 + 4.0 + 3.0


# ---------------------------------------------------------------------------------------------------- the command line


def test_the_tables_of_the_library_are_listed():
    shown = CliRunner().invoke(app, ["ablate", "--list"])
    assert shown.exit_code == 0 and all(name in shown.output for name in TABLES)


def test_a_table_must_be_named():
    assert CliRunner().invoke(app, ["ablate"]).exit_code == 2


def test_a_job_that_fails_is_told_with_its_reason_and_nothing_is_left_behind(tmp_path):
    recipe = tiny()
    lost = Job(kind="prepare", folder=tmp_path / "job", recipes={"a": recipe}, data=str(tmp_path / "nowhere"))
    started = []
    with pytest.raises(mm.RunError, match=r"preparing failed \(exit status 2\): no data at"):
        run_apart([Task("preparing", lost)], 1, lambda running: started.extend(running))
    assert started


def command(table: Path, folder: Path) -> list[str]:
    options = ["--data", "planted-v1-small", "--seeds", "2", "--run", str(folder)]
    return [sys.executable, "-m", "maskmotion", "ablate", str(table), *options]


@pytest.mark.slow
def test_killed_in_the_middle_of_cells_and_started_again_it_gives_the_same_table(finished, tmp_path):
    """SIGKILL of the command alone, as soon as a cell is done and another has a checkpoint; its processes end by themselves."""
    table, folder = tmp_path / "small.json", tmp_path / "run"
    table.write_text(json.dumps(SMALL))
    begun = subprocess.Popen(command(table, folder), stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 600
    while not (list(folder.glob("cells/*/*/result.json")) and list(folder.glob("cells/*/*/run/checkpoint-*"))):
        assert begun.poll() is None and time.monotonic() < give_up, "it was over before it could be killed"
        time.sleep(0.01)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    before = set(folder.glob("cells/*/*/result.json"))
    assert len(before) < 4 and not (folder / "table.md").exists()
    done = subprocess.run(command(table, folder), capture_output=True, text=True, check=True)
    assert f"4 cells (2 rows x 2 seeds), {len(before)} done" in done.stdout
    assert numbers(folder) == numbers(finished.folder), (
        "in processes, killed and resumed, as in one process without a break"
    )
    assert done.stderr == "", "no bar where there is no terminal"


@pytest.mark.slow
def test_the_processes_of_a_killed_command_end(tmp_path):
    table, folder = tmp_path / "small.json", tmp_path / "run"
    table.write_text(json.dumps(SMALL | {"changes": FEW | {"training.tokenizer.steps": 100_000}}))
    begun = subprocess.Popen(command(table, folder), stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 600
    while not list(folder.glob("tokenizers/*/run/log.jsonl")):
        assert begun.poll() is None and time.monotonic() < give_up
        time.sleep(0.05)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    with only_one(folder):  # waits for them; they hold the lock
        log = next(folder.glob("tokenizers/*/run/log.jsonl"))
        size = log.stat().st_size
        time.sleep(1.5)
        assert log.stat().st_size == size


def test_nan_is_no_number_of_a_report():
    rows = {
        label: {seed: cell | {"lift": math.nan} for seed, cell in row.items()} for label, row in made_up().cells.items()
    }
    assert "nan" not in markdown(made_up(cells=rows)).lower().replace("nanmean", "")
