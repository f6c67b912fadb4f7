"""train(): every stage of a recipe in order, in a run folder that can be interrupted anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskmotion.config import Recipe
from maskmotion.data.corpus import Corpus, open_corpus
from maskmotion.data.features import FeatureCache
from maskmotion.data.windows import WindowDataset
from maskmotion.evaluation.masks import MaskQuality, semantic_frames
from maskmotion.interfaces import Conditioner, Generator, MaskContext
from maskmotion.model import Model
from maskmotion.training.checkpoint import RunError, read_tensors
from maskmotion.training.loop import fit
from maskmotion.training.runs import Log, Run


def train(
    recipe: Recipe | str,
    data: str | Path | Corpus = "planted",
    run: str | Path = "runs/model",
    *,
    tokenizer: str | Path | None = None,
    device: str = "auto",
    show: bool = False,
    cache: str | Path | None = None,
) -> Model:
    """Train every stage of a recipe: tokenizers, root, then the generator's own. Returns the best model, saved in `run`.

    An interrupted run goes on where it stopped, with the same result as an unbroken one; a finished one is loaded.

    Args:
        recipe: a Recipe, or the name of a preset.
        data: "planted", the path of a BEAT2 tree, or a `Corpus` of your own clips.
        run: folder of the run, made if missing.
        tokenizer: run folder whose tokenizers and root network are taken over instead of trained; its recipe must have
            the same tokenizers.
        device: "auto" or "cpu". show: progress bars, on a terminal. cache: folder of audio features.

    Raises RunError for a folder that cannot be used, RecipeError for a recipe that cannot be built.
    """
    if isinstance(recipe, str):
        from maskmotion.registry import lookup

        recipe = lookup("preset", recipe)()
    assert isinstance(recipe, Recipe)
    model = Model.build(recipe)
    corpus = open_corpus(data, recipe.body.window)
    place = Run(run, recipe, f"{corpus.name} {corpus.fingerprint}")
    stages = ["tokenizer", "root", *model.generator.stages]
    if any(place.done(stage) for stage in stages):
        model.load_state_dict(read_tensors(place.folder / "model.safetensors")[0])
    if all(place.done(stage) for stage in stages):
        return model.eval()
    if tokenizer is not None and not place.done("root"):
        take_tokenizers(model, tokenizer)
        place.state["done"] = ["tokenizer", "root"]
    features = FeatureCache(cache)
    with torch.random.fork_rng():
        for stage in stages:
            if not place.done(stage):
                _train_stage(model, stage, corpus, features, place, device, show)
                model.save_pretrained(place.folder)
                place.finish(stage)
    return model.eval()


def take_tokenizers(model: Model, source: str | Path) -> None:
    """Copy tokenizers and root network of another run. RunError when its recipe has others."""
    other = Model.from_pretrained(source)
    for field in ("body", "tokenizer", "root"):
        if getattr(other.recipe, field) != getattr(model.recipe, field):
            raise RunError(f"{source} has another `{field}` than this recipe, so its tokens mean something else")
    model.body.load_state_dict(other.body.state_dict())
    model.root.load_state_dict(other.root.state_dict())


def _train_stage(
    model: Model, stage: str, corpus: Corpus, features: FeatureCache, place: Run, device: str, show: bool
) -> None:
    config = model.recipe.training[stage]
    learner, measure = _learner(model, stage, corpus)
    extractors = model.extractors if learner is model.generator else ()
    waveforms = learner is model.generator and _reads_audio(model.generator)

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
        device=device,
        show=show,
    )
    learner.load_state_dict(best.state_dict())
    learner.requires_grad_(learner is not model.body)


def _learner(model: Model, stage: str, corpus: Corpus) -> tuple[nn.Module, Any]:
    """What a stage trains and how it is measured; statistics of the data are set on the way."""
    if stage == "tokenizer":
        model.body.set_statistics(clip.motion for clip in corpus.train)
        return model.body.requires_grad_(True), measure_losses
    if stage == "root":
        model.root.set_statistics([clip.motion for clip in corpus.train])
        return model.root, measure_losses
    return model.generator, measure_generator


def measure_losses(network: nn.Module, progress: float, dataset: WindowDataset) -> dict[str, float]:
    """Mean of every named loss over a data set, and their sum as "loss"."""
    return _mean_losses(dataset, network, lambda batch: network(batch, teacher=network, progress=progress, stage=""))


def measure_generator(network: nn.Module, progress: float, dataset: WindowDataset) -> dict[str, float]:
    """Losses under the generation mask, the same question for every strategy, and the masker's lift where meanings are known."""
    assert isinstance(network, Generator)
    validate = getattr(network, "validate", None)
    if validate is None:
        return measure_losses(network, progress, dataset)
    values = _mean_losses(dataset, network, validate)
    quality = mask_quality(network, progress, dataset)
    return values if quality is None else values | {"lift": quality.lift}


def mask_quality(network: Generator, progress: float, dataset: WindowDataset, size: int = 32) -> Any:
    """How well the masker's frames hit the semantic ones, with this network as teacher; None without masker or labels."""
    if network.masker is None:
        return None
    device = next(network.parameters()).device
    quality, rng = MaskQuality(), torch.Generator().manual_seed(0)
    for batch in dataset.batches(size):
        if "semantic" not in batch.labels:
            return None
        batch = batch.to(device)
        with torch.no_grad():
            context = MaskContext(batch, network.condition(batch), progress, rng, network)
            mask, scores = network.masker(context), network.masker.scores(context)
        frames = mask if mask.ndim == 2 else mask.float().mean(-1) > 0.5
        frame_scores = scores if scores.ndim == 2 else scores.mean(-1)
        quality.update(
            frame_scores.cpu(), frames.cpu(), semantic_frames(batch.labels).cpu(), batch.valid.cpu(),
            batch.labels["distractor"].cpu() if "distractor" in batch.labels else None,
        )  # fmt: skip
    return quality.result()


def _mean_losses(dataset: WindowDataset, network: nn.Module, losses_of: Any) -> dict[str, float]:
    device = next(network.parameters()).device
    sums: dict[str, float] = {}
    rows = 0
    for batch in dataset.batches(64):
        for name, value in losses_of(batch.to(device)).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(batch.motion)
        rows += len(batch.motion)
    means = {name: value / rows for name, value in sums.items()}
    return means | {"loss": sum(means.values())}


def _reads_audio(generator: Generator) -> bool:
    return any(isinstance(m, Conditioner) and m.reads_audio for m in generator.modules())
