"""train(): every stage of a recipe in order, in a run folder that can be interrupted anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskmotion.config import Recipe
from maskmotion.data.corpus import Corpus, open_corpus
from maskmotion.data.features import FeatureCache, default_folder
from maskmotion.data.windows import WindowDataset
from maskmotion.model import Model
from maskmotion.tokenizers.pretrained import Tokenizers
from maskmotion.training.checkpoint import RunError, read_tensors
from maskmotion.training.loop import fit
from maskmotion.training.measure import measure_generator, measure_losses, measure_tokenizer
from maskmotion.training.runs import Log, Run


def train(
    recipe: Recipe | str,
    data: str | Path | Corpus = "planted",
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
        data: "planted", the path of a BEAT2 tree, or a `Corpus` of your own clips.
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
    stages = ["tokenizer", "root", *model.generator.stages]
    if only is not None and not set(only) <= set(stages):
        raise ValueError(f"stages of {recipe.name} are {', '.join(stages)}; got {', '.join(only)}")
    if body_model is not None:
        from maskmotion.motion.body_model import BodyModel

        model.body.use_body_model(BodyModel(body_model))
    corpus = open_corpus(data, recipe.body.window)
    place = Run(run, recipe, f"{corpus.name} {corpus.fingerprint}")
    if any(place.done(stage) for stage in stages):
        model.load_state_dict(read_tensors(place.folder / "model.safetensors")[0])
    if all(place.done(stage) for stage in stages):
        return model.eval()
    if tokenizer is not None and not place.done("root"):
        take_tokenizers(model, tokenizer)
        place.state["done"] = ["tokenizer", "root"]
    features = FeatureCache(default_folder() if cache is None else cache)
    with torch.random.fork_rng():
        for stage in stages:
            if not place.done(stage) and (only is None or stage in only):
                _train_stage(model, stage, corpus, features, place, device, show)
                _save_once(model, place, stage)
    return model.eval()


def _save_once(model: Model, place: Run, stage: str) -> None:
    """Save from the first process; the others wait, because they may need the folder next."""
    from accelerate import PartialState

    processes = PartialState()
    if processes.is_main_process:
        model.save_pretrained(place.folder)
        place.finish(stage)
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
    """A section of a recipe without what only its training reads."""
    left: dict[str, Any] = section.model_dump(exclude={"losses", "difference", "velocity"})
    changes = left.pop("by_part", {})
    return left | {
        f"{part}.{path}": v for part, one in changes.items() for path, v in one.items() if "loss" not in path
    }


def _train_stage(
    model: Model, stage: str, corpus: Corpus, features: FeatureCache, place: Run, device: str, show: bool
) -> None:
    config = model.recipe.training[stage]
    learner, measure = _learner(model, stage, corpus)
    extractors = model.extractors if learner is model.generator else ()
    waveforms = learner is model.generator and model.reads_audio

    def windows(clips: Any, stride: int) -> WindowDataset:
        return WindowDataset(clips, model.recipe.body.window, stride, extractors, features, audio=waveforms)

    held_out = windows(corpus.validation, model.recipe.body.window) if corpus.validation else None
    log, checkpoint = Log(place.folder, stage), place.checkpoint(stage)
    log.forget_after(read_tensors(checkpoint)[1]["step"] if checkpoint.exists() else 0)
    best = fit(
        learner,
        windows(corpus.train, config.stride),
        config,
        seed=model.recipe.seed,
        stage=stage,
        measure=None if held_out is None else lambda network, progress: measure(network, progress, held_out),
        checkpoint=checkpoint,
        on_step=log.losses,
        on_measure=log.measured,
        on_observe=log.observed,
        device=device,
        show=show,
    )
    learner.load_state_dict(best.state_dict())
    learner.requires_grad_(learner is not model.body)


def _learner(model: Model, stage: str, corpus: Corpus) -> tuple[nn.Module, Any]:
    """What a stage trains and how it is measured; statistics of the data are set on the way."""
    if stage == "tokenizer":
        model.body.set_statistics(clip.motion for clip in corpus.train)
        return model.body.requires_grad_(True), measure_tokenizer
    if stage == "root":
        model.root.set_statistics([clip.motion for clip in corpus.train])
        return model.root, measure_losses
    return model.generator, measure_generator
