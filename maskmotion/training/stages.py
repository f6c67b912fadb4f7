"""train(): every stage of a recipe in order, in a run folder that can be interrupted anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskmotion.config import Recipe
from maskmotion.data.contents import Contents
from maskmotion.data.corpus import Corpus, open_corpus
from maskmotion.data.features import FeatureCache, default_folder
from maskmotion.data.turns import Turns
from maskmotion.data.windows import WindowDataset
from maskmotion.generators.several import Several
from maskmotion.model import Model
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.tokenizers.pretrained import Tokenizers
from maskmotion.training.checkpoint import RunError, put_weights, read_tensors
from maskmotion.training.further import Further, add_further, several
from maskmotion.training.gestures import GestureProbe
from maskmotion.training.loop import fit
from maskmotion.training.measure import measure_generator, measure_losses, measure_tokenizer
from maskmotion.training.runs import Log, Run, noted_clips
from maskmotion.types import Clip


def train(
    recipe: Recipe | str,
    data: str | Path | Corpus | Sequence[str | Path | Corpus] = "planted",
    run: str | Path = "runs/model",
    *,
    tokenizer: str | Path | None = None,
    only: Sequence[str] | None = None,
    device: str = "auto",
    show: bool = False,
    cache: str | Path | None = None,
    body_model: str | Path | None = None,
) -> Model:
    """Train every stage of a recipe: tokenizers, root, then the generator's own. Returns the best model, saved in `run`.

    An interrupted run goes on where it stopped, with the same result as an unbroken one; a finished one is loaded.

    Args:
        recipe: a Recipe, or the name of a preset.
        data: "planted", the path of a BEAT2 tree, or a `Corpus` of your own clips. Of several, the first is the main one,
            which the model generates like and is measured on; the others may lack parts or speech, train tokenizers and
            heads of their own for what they have, and share the rest of the generator (EMAGE, section 5.2.3).
        run: folder of the run, made if missing.
        tokenizer: run folder, or folder of converted tokenizers, whose tokenizers and root network are taken over
            instead of trained; they must have the same plan.
        only: stages to train in this call; the others are left for a later one. None: all of them.
        device: "auto" or "cpu". show: progress bars, on a terminal. cache: folder of audio features.
        body_model: your SMPL-X model file, needed for losses on vertices.

    Raises RunError for a folder that cannot be used, RecipeError for a recipe that cannot be built.
    """
    if isinstance(recipe, str):
        from maskmotion.registry import lookup

        recipe = lookup("preset", recipe)()
    assert isinstance(recipe, Recipe)
    model = Model.build(recipe)
    known = ["tokenizer", "root", *model.generator.stages]
    if only is not None and not set(only) <= set(known):
        raise ValueError(f"stages of {recipe.name} are {', '.join(known)}; got {', '.join(only)}")
    given = [data] if isinstance(data, str | Path | Corpus) else list(data)
    corpora = [open_corpus(one, recipe.body.window) for one in given]
    further = add_further(recipe, corpora, model.generator, Path(run))
    if body_model is not None:
        from maskmotion.motion.body_model import BodyModel

        mesh = BodyModel(body_model)
        for body in (model.body, *(one.body for one in further)):
            body.use_body_model(mesh)
    place = Run(run, recipe, ", ".join(f"{corpus.name} {corpus.fingerprint}" for corpus in corpora))
    for corpus in corpora:
        place.note_clips((clip.name for clip in corpus.train), (clip.name for clip in corpus.validation))
    stages = ["tokenizer", *(one.stage for one in further), "root", *model.generator.stages]
    if any(place.done(stage) for stage in stages):
        put_weights(model, read_tensors(place.folder / "model.safetensors")[0], place.folder)
    if all(place.done(stage) for stage in stages):
        return model.eval()
    if tokenizer is not None and not place.done("root"):
        take_tokenizers(model, tokenizer)
        theirs = noted_clips(tokenizer) or {"train": [], "validation": []}
        place.note_clips(theirs["train"], theirs["validation"])
        place.state["done"] = ["tokenizer", "root"]
    features = FeatureCache(default_folder() if cache is None else cache)
    work = _Work(model, corpora[0], further, several(model.generator, further, place), features, place, device, show)
    with torch.random.fork_rng():
        for stage in stages:
            if not place.done(stage) and (only is None or stage.split("/")[0] in only):
                _train_stage(work, stage)
                _save_once(work, stage)
    return model.eval()


@dataclass(frozen=True)
class _Work:
    """What every stage of a call of `train` needs; `several` is the generator among further data sets, None without."""

    model: Model
    corpus: Corpus
    further: Sequence[Further]
    several: Several | None
    features: FeatureCache
    place: Run
    device: str
    show: bool


def _save_once(work: _Work, stage: str) -> None:
    """Save from the first process; the others wait, because they may need the folder next."""
    from accelerate import PartialState

    processes = PartialState()
    if processes.is_main_process:
        work.model.save_pretrained(work.place.folder)
        learns = stage in work.model.generator.stages
        for number, one in enumerate(work.further):
            if work.several is not None and (learns or stage == one.stage):
                one.save(work.several.heads[number] if learns else None)
        work.place.finish(stage)
    processes.wait_for_everyone()


def take_tokenizers(model: Model, source: str | Path) -> None:
    """Copy tokenizers and root network of another run or of a converted folder. RunError when its plan is another."""
    found = Tokenizers.from_pretrained(source)
    if found.root is None:
        raise RunError(
            f"{source} has tokenizers but no root network; convert the global motion file together with them"
        )
    for field in ("body", "tokenizer", "root"):
        if _built(getattr(found.plan, field)) != _built(getattr(model.recipe, field)):
            raise RunError(
                f"{source} has another `{field}` than this recipe, so its tokens mean something else; "
                f"recipe.but(Tokenizers.from_pretrained({str(source)!r}).plan.changes()) takes its plan over"
            )
    model.body.load_state_dict(found.body.state_dict())
    model.root.load_state_dict(found.root.state_dict())


def _built(section: Any) -> dict[str, Any]:
    """A section of a recipe without what only its training reads, and without what no weight depends on."""
    left: dict[str, Any] = section.model_dump(exclude={"losses", "difference", "velocity", "translation"})
    changes = left.pop("by_part", {})
    return left | {
        f"{part}.{path}": v for part, one in changes.items() for path, v in one.items() if "loss" not in path
    }


def _train_stage(work: _Work, stage: str) -> None:
    recipe, own = work.model.recipe, next((one for one in work.further if one.stage == stage), None)
    config = recipe.training["tokenizer" if own else stage]
    learner, measure = _learner(work, stage, own)
    corpus = work.corpus if own is None else own.corpus
    held_out = _windows(work, stage, corpus, recipe.body.window) if corpus.validation else None
    log, checkpoint = Log(work.place.folder, stage), work.place.checkpoint(stage)
    log.forget_after(read_tensors(checkpoint)[1]["step"] if checkpoint.exists() else 0)
    best = fit(
        learner,
        _to_learn(work, stage, corpus, config.stride),
        config,
        seed=recipe.seed,
        stage=stage,
        measure=None if held_out is None else lambda network, progress: measure(network, progress, held_out),
        checkpoint=checkpoint,
        on_step=log.losses,
        on_measure=log.measured,
        on_observe=log.observed,
        device=work.device,
        show=work.show,
    )
    learner.load_state_dict(best.state_dict())
    learner.requires_grad_(not isinstance(learner, BodyTokenizer))
    work.model.body.requires_grad_(False)  # the generator holds the tokenizers, and its next stage must not move them


def _windows(
    work: _Work, stage: str, corpus: Corpus, stride: int, clips: Sequence[Clip] | None = None, number: int = 0
) -> WindowDataset:
    """Windows of the validation clips, or of these, with what the stage reads of the speech."""
    model = work.model
    hears = stage in model.generator.stages
    return WindowDataset(
        corpus.validation if clips is None else clips,
        model.recipe.body.window,
        stride,
        model.extractors if hears else (),
        work.features,
        audio=hears and model.reads_audio,
        contents=corpus.contents if number else Contents(),
        number=number,
    )


def _to_learn(work: _Work, stage: str, corpus: Corpus, stride: int) -> WindowDataset | Turns:
    """The training windows of a stage; of all data sets in turn where the generator learns."""
    main = _windows(work, stage, corpus, stride, corpus.train)
    if not work.further or stage not in work.model.generator.stages:
        return main
    others = enumerate((one.corpus for one in work.further), 1)
    return Turns([main, *(_windows(work, stage, one, stride, one.train, number) for number, one in others)])


def _learner(work: _Work, stage: str, own: Further | None) -> tuple[nn.Module, Any]:
    """What a stage trains and how it is measured; statistics of the data are set on the way."""
    model, motions = work.model, [clip.motion for clip in (work.corpus if own is None else own.corpus).train]
    if stage == "tokenizer" or own is not None:
        body = model.body if own is None else own.body
        body.set_statistics(motions)
        return body.requires_grad_(True), measure_tokenizer
    if stage == "root":
        model.root.set_statistics(motions)
        return model.root, measure_losses
    gestures = GestureProbe.of(model, work.corpus, work.features)
    follow = partial(measure_generator, seed=model.recipe.seed, gestures=gestures)
    if work.several is None:
        return model.generator, follow
    work.several.freeze()
    return work.several, lambda network, progress, data: follow(network.generator, progress, data)
