"""Learning from several data sets of which some lack parts or speech (EMAGE, section 5.2.3 and Table 7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import maskmotion as mm
from maskmotion.data.contents import Contents, read_contents, write_contents
from maskmotion.data.turns import Turns
from maskmotion.data.windows import WindowDataset
from maskmotion.generators.passes import without_speech
from maskmotion.generators.several import Several
from maskmotion.motion.layout import SMPLX
from maskmotion.training.further import plan_for
from maskmotion.training.runs import read_log

BODY, BODY_HANDS = "planted-v1-small-body", "planted-v1-small-body-hands"
PASSES = [
    {"name": "seed", "mask": "seed", "share": 0.5},
    {"name": "speech", "share": 0.25},
    {"name": "motion", "share": 0.25, "speech": False},
]


class Stop(Exception):
    """Stands for a killed process."""


def same_state(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="session")
def body_corpus() -> mm.Corpus:
    return mm.open_corpus(BODY)


@pytest.fixture(scope="session")
def hands_corpus() -> mm.Corpus:
    return mm.open_corpus(BODY_HANDS)


@pytest.fixture(scope="session")
def recipe(quick_recipe):
    return quick_recipe.but({"generator.passes": PASSES, "training.generator.steps": 12})


@pytest.fixture(scope="session")
def corpora(small_corpus, body_corpus, hands_corpus):
    return [small_corpus, body_corpus, hands_corpus]


@pytest.fixture(scope="session")
def run(tmp_path_factory, recipe, corpora):
    folder = tmp_path_factory.mktemp("several") / "run"
    mm.train(recipe, corpora, folder)
    return folder


def windows(corpus: mm.Corpus, number: int, **options) -> WindowDataset:
    return WindowDataset(corpus.train, 64, 64, contents=corpus.contents, number=number, **options)


def test_the_planted_corpora_without_parts_have_what_they_say(small_corpus, body_corpus, hands_corpus):
    assert body_corpus.contents == Contents(("upper", "lower"))
    assert hands_corpus.contents == Contents(("upper", "hands", "lower"), audio=False)
    whole = {clip.name: clip for clip in small_corpus.train}
    for corpus in (body_corpus, hands_corpus):
        known = corpus.contents.known
        for clip in corpus.train:
            assert torch.equal(clip.motion[:, ~known], SMPLX.rest[~known].expand(clip.frames, -1))
            assert clip.motion[:, known].std(dim=0)[: 6 * 9].min() > 0
            assert not torch.equal(clip.motion[:, known], whole[clip.name].motion[:, known]), "another take"
            assert (clip.audio is None) == (corpus is hands_corpus)
            assert ("words" in clip.labels) == (corpus is body_corpus)


def test_a_run_on_several_data_sets_names_its_losses_by_them(run, recipe):
    rows = [row for row in read_log(run / "log.jsonl") if row["stage"] == "generator"]
    losses = {name for row in rows for name in row.get("losses", {})}
    assert {"seed/codes", "speech/latents", "motion/codes"} <= losses
    assert {f"{BODY}/seed/codes", f"{BODY}/motion/latents", f"{BODY}/speech/codes"} <= losses
    assert {name for name in losses if name.startswith(f"{BODY_HANDS}/")} == {
        f"{BODY_HANDS}/motion/codes",
        f"{BODY_HANDS}/motion/latents",
    }
    stages = {row["stage"] for row in read_log(run / "log.jsonl")}
    assert stages == {"tokenizer", f"tokenizer/{BODY}", f"tokenizer/{BODY_HANDS}", "root", "generator"}
    measured = [row["validation"] for row in rows if "validation" in row]
    assert {"loss", "lift", "seed/codes"} <= set(measured[-1]), "on the main data set"


def test_each_data_set_has_tokenizers_for_what_it_has(run):
    body = mm.Tokenizers.from_pretrained(run / "data" / BODY).body
    hands = mm.Tokenizers.from_pretrained(run / "data" / BODY_HANDS).body
    main = mm.Model.from_pretrained(run).body
    assert (body.parts, hands.parts) == (("upper", "lower"), ("upper", "hands", "lower"))
    tables = [one["upper"].quantizer.state_dict() for one in (main, body, hands)]
    assert not any(
        torch.equal(tables[0][key], other[key]) for key in tables[0] for other in tables[1:] if "vectors" in key
    )


def test_the_saved_model_is_that_of_the_main_data_set(run, recipe, speech_file, tmp_path, small_corpus):
    model = mm.Model.from_pretrained(run)
    assert same_state(model, mm.Model.from_pretrained(model.save_pretrained(tmp_path / "copy")))
    assert set(model.state_dict()) == set(mm.Model.build(recipe).state_dict())
    clip = model.generate(speech_file)
    assert clip.frames == 75
    assert same_state(mm.train(recipe, [small_corpus, mm.open_corpus(BODY), mm.open_corpus(BODY_HANDS)], run), model)


@pytest.mark.parametrize(("stage", "stop_at"), [(f"tokenizer/{BODY}", 4), ("generator", 7)])
def test_an_interrupted_run_goes_on_exactly(tmp_path, run, recipe, corpora, monkeypatch, stage, stop_at):
    from maskmotion.training import runs

    original = runs.Log.losses

    def stopping(self, step, losses):
        if self.stage == stage and step == stop_at:
            raise Stop
        original(self, step, losses)

    with monkeypatch.context() as patch:
        patch.setattr(runs.Log, "losses", stopping)
        with pytest.raises(Stop):
            mm.train(recipe, corpora, tmp_path / "run")
    torch.manual_seed(12345)
    assert same_state(mm.train(recipe, corpora, tmp_path / "run"), mm.Model.from_pretrained(run))
    for name in (BODY, BODY_HANDS):
        for file in ("model.safetensors", "heads.safetensors"):
            left, right = (folder / "data" / name / file for folder in (run, tmp_path / "run"))
            assert left.read_bytes() == right.read_bytes()


def test_a_run_on_other_further_data_is_refused(run, recipe, small_corpus, body_corpus):
    with pytest.raises(mm.RunError, match="was trained on"):
        mm.train(recipe, [small_corpus, body_corpus], run)


def test_one_data_set_in_a_list_is_one_data_set(quick_recipe, quick_run, small_corpus, tmp_path):
    model = mm.train(quick_recipe, [small_corpus], tmp_path / "run")
    assert same_state(model, mm.Model.from_pretrained(quick_run))
    assert not (tmp_path / "run" / "data").exists()


def built(recipe, corpora) -> Several:
    generator = mm.Model.build(recipe).generator
    bodies = {}
    for corpus in corpora[1:]:
        torch.manual_seed(0)
        bodies[corpus.name] = mm.Tokenizers.build(plan_for(recipe, corpus)).body
    generator.body.set_statistics(clip.motion for clip in corpora[0].train)
    network = Several(generator, bodies)
    network.freeze()
    return network.train()


def gradients(network: Several, batch: mm.Batch) -> set[str]:
    network.zero_grad(set_to_none=True)
    losses = network(batch, teacher=network, progress=0.5, stage="generator")
    torch.stack(list(losses.values())).sum().backward()
    return {name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}


SCRIPT = """
import os, sys, torch, maskmotion as mm
torch.set_num_threads(1)
few = {f"training.{stage}.{field}": value for stage in ("tokenizer", "root", "generator")
       for field, value in (("steps", 4), ("batch_size", 8))}
recipe = mm.preset("emage", "tiny").but(few)
model = mm.train(recipe, ["planted-v1-small", "planted-v1-small-body-hands"], sys.argv[1], device="cpu")
total = sum(float(v.double().abs().sum()) for v in model.state_dict().values() if v.is_floating_point())
with open(f"{sys.argv[1]}-rank{os.environ['RANK']}.txt", "w") as file:
    file.write(str(total))
"""


@pytest.mark.slow
def test_two_processes_learn_from_several_data_sets(tmp_path, corpora):
    from test_distributed import launch

    (tmp_path / "script.py").write_text(SCRIPT)
    launch(tmp_path / "script.py", str(tmp_path / "run"))
    first, second = ((tmp_path / f"run-rank{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert (tmp_path / "run" / "data" / BODY_HANDS / "heads.safetensors").is_file()


@pytest.mark.parametrize("preset", ["tiny", "emage"])
def test_a_batch_teaches_the_shared_network_and_its_own_heads_only(preset, recipe, corpora):
    recipe = recipe if preset == "tiny" else mm.preset("emage", "tiny")
    network = built(recipe, corpora)
    extractors = mm.Model.build(recipe).extractors
    heads = network.generator.token_heads
    seen = []
    for number, corpus in enumerate(corpora):
        dataset = windows(corpus, number, extractors=extractors)
        seen.append(gradients(network, dataset.batch(range(8))))
    main = tuple(f"generator.{head}" for head in heads)
    own = ["generator.", "heads.0.", "heads.1."]
    for number, names in enumerate(seen):
        assert not any(name.startswith(("bodies.", "generator.body.")) for name in names), "tokenizers are frozen"
        touched = {prefix for prefix in own[1:] if any(name.startswith(prefix) for name in names)}
        assert touched == ({own[number]} if number else set())
        assert any(name.startswith(main) for name in names) == (number == 0)
        assert any(name.startswith("generator.") and not name.startswith(main) for name in names), "shared"
    assert not any("conditioners" in name and "speaker" not in name for name in seen[2]), (
        "nothing is learned from silence"
    )
    parts = {name.split(".")[3] for name in seen[2] if name.startswith("heads.1.")}
    assert parts == {"upper", "hands", "lower"}


@pytest.mark.parametrize("preset", ["tiny", "emage"])
def test_missing_columns_and_silence_have_no_effect(preset, recipe, corpora):
    recipe = recipe if preset == "tiny" else mm.preset("emage", "tiny")
    recipe = recipe.but({"generator.dropout": 0.0})
    network = built(recipe, corpora)
    batch = windows(corpora[2], 2, extractors=mm.Model.build(recipe).extractors).batch(range(6))
    assert batch.known is not None

    def losses(one: mm.Batch) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        return network(one, teacher=network, progress=0.5, stage="generator")

    noise = torch.where(batch.known[:, None], 0.0, torch.randn_like(batch.motion))
    loud = {key: torch.randn_like(value) for key, value in batch.features.items()}
    before, after = losses(batch), losses(replace(batch, motion=batch.motion + noise, features=loud))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = losses(replace(batch, motion=batch.motion + torch.where(batch.known[:, None], 0.05, 0.0)))
    assert any(not torch.equal(before[name], moved[name]) for name in before)


def test_turns_are_in_proportion_and_every_window_has_its_turn(corpora):
    sets = [windows(corpus, number) for number, corpus in enumerate([corpora[0], corpora[1]])]
    few = WindowDataset(corpora[2].train[:1], 64, 64, contents=corpora[2].contents, number=2)
    turns = Turns([*sets, few])
    size = 5
    batches = [-(-len(one) // size) for one in turns.sets]
    order = [turns.turn(number, size, 7) for number in range(3 * sum(batches))]
    for dataset, expected in zip(turns.sets, batches):
        own = [turn for one, turn in order if one is dataset]
        assert own == list(range(3 * expected)), "each data set counts its own batches"
    first = [turns.sets.index(one) for one, _ in order[: sum(batches)]]
    assert first != sorted(first), "they alternate"
    assert [turns.turn(number, size, 7) for number in (40, 3)] == [order[40], order[3]]


def test_one_data_set_takes_every_turn(small_corpus):
    only = Turns([windows(small_corpus, 0)])
    assert [only.turn(number, 8, 0)[1] for number in range(50)] == list(range(50))


def test_batches_say_what_is_real(corpora):
    first, body, hands = (windows(corpus, number).batch([0, 1]) for number, corpus in enumerate(corpora))
    assert first.known is None and not first.silent and first.speaker is not None
    assert body.known is not None and not body.silent and body.speaker is None
    assert hands.silent and hands.data == 2
    assert torch.equal(hands.rows(torch.tensor([1])).known, hands.known[1:])
    with pytest.raises(ValueError, match="no audio"):
        WindowDataset(corpora[2].train, audio=True)


def test_passes_that_hear_nothing_divide_the_whole_batch():
    passes = (mm.Pass("a", share=0.5), mm.Pass("b", share=0.25, speech=False), mm.Pass("c", share=0.25, speech=False))
    assert [(one.name, one.share) for one in without_speech(passes)] == [("b", 0.5), ("c", 0.5)]
    assert [one.share for one in without_speech((mm.Pass("a"), mm.Pass("b", speech=False)))] == [1.0]


def test_data_sets_that_cannot_be_learned_from_are_refused(tmp_path, recipe, quick_recipe, small_corpus, corpora):
    place = tmp_path / "run"
    with pytest.raises(ValueError, match=r"has no face, no speech: .* name that one first"):
        mm.train(recipe, [corpora[2], small_corpus], place)
    with pytest.raises(mm.RecipeError, match=r"no speech, and tiny has no pass that hears none.*generator.passes"):
        mm.train(quick_recipe, [small_corpus, corpora[2]], place)
    with pytest.raises(mm.RecipeError, match=r"body.parts: .*-body has only upper, lower.*no part of this recipe"):
        mm.train(recipe.but({"body.parts": "whole"}), [small_corpus, corpora[1]], place)
    with pytest.raises(mm.RunError, match="two data sets are named"):
        mm.train(recipe, [small_corpus, small_corpus], place)
    assert not place.exists()


def test_the_command_line_takes_several_data_sets(tmp_path, capsys, monkeypatch):
    from typer.testing import CliRunner

    import maskmotion.cli as cli

    seen = {}

    def train(recipe, data, run, **options):
        seen["data"] = data
        return torch.nn.Linear(1, 1)

    monkeypatch.setattr(mm, "train", train)
    monkeypatch.setattr(cli, "_best_measured", lambda run: [])
    for given, expected in ([[], ["planted"]], [["--data", "planted", "--data", BODY], ["planted", BODY]]):
        result = CliRunner().invoke(cli.app, ["train", "tiny", "--run", str(tmp_path / "run"), *given])
        assert result.exit_code == 0, result.output
        assert seen["data"] == expected


def test_a_model_is_not_measured_on_a_data_set_that_lacks_parts(quick_run, tmp_path):
    from typer.testing import CliRunner

    from maskmotion.cli import app

    result = CliRunner().invoke(app, ["evaluate", str(quick_run), "--data", BODY, "--out", str(tmp_path / "table.csv")])
    assert isinstance(result.exception, ValueError)
    assert "has no face, no hands" in str(result.exception)


def test_a_tree_says_in_its_check_what_it_lacks(hands_corpus):
    from maskmotion.data.check import check
    from maskmotion.data.planted import planted_root

    report = check(planted_root(name=BODY_HANDS))
    assert report.problems == []
    assert report.notes == ["parts.json: it has only upper, hands, lower; no speech; name it after a whole data set"]


def test_a_generator_that_names_no_heads_is_refused(recipe, small_corpus, body_corpus, tmp_path, monkeypatch):
    from maskmotion.generators.tiny import Tiny

    monkeypatch.setattr(Tiny, "token_heads", ())
    with pytest.raises(mm.RecipeError, match="Tiny cannot learn from several data sets.*token_heads"):
        mm.train(recipe, [small_corpus, body_corpus], tmp_path / "run")


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"parts": "upper"}', '{"parts": []}', '{"parts": ["arms"]}', '{"parts": ["upper"], "audio": 1}',
             '{"parts": ["upper", "upper"]}', '{"parts": ["upper"], "speech": true}']
)  # fmt: skip
def test_a_wrong_parts_file_is_told(tmp_path, text):
    (tmp_path / "parts.json").write_text(text)
    with pytest.raises(ValueError, match=r"parts\.json: .*an example"):
        read_contents(tmp_path)


def test_contents_are_written_and_read(tmp_path):
    assert read_contents(tmp_path).whole
    contents = Contents(("upper",), audio=False)
    write_contents(tmp_path, contents)
    assert read_contents(tmp_path) == contents
    assert contents.missing() == ("face", "hands", "lower")
    assert int(contents.known.sum()) == 78
