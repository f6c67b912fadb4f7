"""Model: a recipe and its built parts. Build, generate, save, load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskmotion.config import Recipe, RecipeError, Spec, build
from maskmotion.interfaces import Conditioner, Extractor, Generator
from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import matrix_from_6d, matrix_to_6d
from maskmotion.progress import progress_bar
from maskmotion.rng import Rng, seed
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.sampling.exact import check_keep, hold, keep_exactly
from maskmotion.sampling.hints import Hints
from maskmotion.shapes import Float
from maskmotion.tokenizers import BodyTokenizer, RootPredictor
from maskmotion.tokenizers.pretrained import build_tokenizers
from maskmotion.tokenizers.root import integrate
from maskmotion.types import Clip

MIN_SECONDS = 0.2  # of speech that motion can be generated for
WEIGHTS, RECIPE, PLUGINS = "model.safetensors", "recipe.json", "plugins.json"


class Model(nn.Module):
    """A recipe and what it builds: `generator` (which holds the tokenizers as `body`) and `root`."""

    def __init__(self, recipe: Recipe, generator: Generator, root: RootPredictor) -> None:
        super().__init__()
        self.recipe, self.generator, self.root = recipe, generator, root

    @classmethod
    def build(cls, recipe: Recipe) -> Model:
        """Construct everything a recipe names, with weights drawn from `recipe.seed`. RecipeError when parts disagree."""
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            body, root = build_tokenizers(recipe.body, recipe.tokenizer, recipe.root)
            generator = build(
                recipe.generator,
                body=body,
                conditioners={name: build(spec, body=body) for name, spec in recipe.conditioners.items()},
                masker=None if recipe.masker is None else build(recipe.masker),
                seed_frames=recipe.body.seed_frames,
            )
        stages = {"tokenizer", "root", *generator.stages}
        if set(recipe.training) != stages:
            raise RecipeError(f"training: needs exactly {', '.join(sorted(stages))}; got {', '.join(recipe.training)}")
        return cls(recipe, generator, root)

    @property
    def body(self) -> BodyTokenizer:
        """The part tokenizers."""
        return self.generator.body

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.body.mean.device

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """Every audio feature that the conditioners read."""
        found = {e.key: e for m in self.generator.modules() if isinstance(m, Conditioner) for e in m.extractors}
        return tuple(found.values())

    @property
    def reads_audio(self) -> bool:
        """Whether a conditioner learns from the waveform itself."""
        return any(isinstance(m, Conditioner) and m.reads_audio for m in self.generator.modules())

    def rest_pose(self) -> Float[Tensor, " D"]:
        """The mean pose of the training data, standing (unless the generator has `rest_contacts`): the seed without another."""
        mean = self.body.mean.clone()
        rotations = mean[ROTATIONS].unflatten(0, (-1, 6))
        mean[ROTATIONS] = matrix_to_6d(matrix_from_6d(rotations)).flatten()
        mean[CONTACTS] = getattr(self.generator, "rest_contacts", 1.0)
        return mean

    @torch.no_grad()
    def generate(
        self,
        speech: str | Path,
        *,
        speaker: int | None = None,
        text: str | Path | None = None,
        rng: Rng | None = None,
        root: Literal["predicted", "in_place"] = "predicted",
        betas: Float[Tensor, " betas"] | None = None,
        start: Float[Tensor, " 3"] | None = None,
        hints: Hints | None = None,
        keep: Literal["exact", "soft"] = "exact",
        show: bool = False,
        **sampling: Any,
    ) -> Clip:
        """Motion for a speech file: samples * fps // sample_rate frames of the original file, none lost.

        Args:
            speech: any audio file of at least 0.2 s, whatever its rate and channels.
            speaker: index into the speaker table; None: no particular one.
            text: a transcript, TextGrid or plain text; never required.
            rng: source of chance; used with temperature > 0.
            root: "predicted" walks as the root network says, "in_place" stays at the start position.
            betas: SMPL-X body shape of the file, up to 300 numbers. start: first root position in metres.
            hints: what of the clip is given; the model sees it. keep: "exact" also puts it, number by number, into the
                clip's file, and blends the rest into it; "soft" leaves it at seeing (EMAGE's release, issue 129).
            sampling: what the generator offers (masked ones: temperature, decode).
        """
        if root not in ("predicted", "in_place"):
            raise ValueError(f'root is "predicted" or "in_place", got {root!r}')
        shape = _shape(betas)
        self.eval()
        waveform, heard, words = self._listen(speech, speaker, text)
        check_keep(hints, keep, start)
        given = None if hints is None else hints.tensors(heard.frames, self.device)
        pose = self.rest_pose().expand(self.recipe.body.seed_frames, -1)
        pose = pose if given is None else hold(pose, *given)
        with progress_bar("generate", -(-heard.frames // self.recipe.body.window), show) as advance:
            window = generate_clip(
                self.generator,
                heard,
                pose[None],
                self.recipe.body.window,
                rng,
                lambda done, total: advance(done, ""),
                None if given is None else (given[0][None], given[1][None]),
                **sampling,
            )

        def place(motion: Tensor) -> Tensor:
            return self.place(motion[None], root, start)[0]

        motion, kept = window.motion[0], {}
        if hints is None or keep == "soft":
            motion = place(motion)
        else:
            kept = hints.arrays(len(motion))
            motion = keep_exactly(motion, *hints.tensors(len(motion), self.device), place)
        name = Path(speech).stem
        return Clip(name, motion.cpu(), waveform, heard.fps, speaker or 0, words, betas=shape, kept=kept)

    def variants(
        self, speech: str | Path, count: int, *, rng: Rng | None = None, temperature: float = 1.0, **options: Any
    ) -> list[Clip]:
        """Different clips for the same speech, each from a random stream of its own; options as in `generate`."""
        if count < 1:
            raise ValueError(f"ask for at least one variant, got {count}")
        streams = (rng or seed(0)).repeat(count)
        return [
            self.generate(speech, rng=Rng((stream,)), temperature=temperature, **options) for stream in streams.seeds
        ]

    def _listen(
        self, path: str | Path, speaker: int | None, text: str | Path | None
    ) -> tuple[Tensor, Speech, tuple[Any, ...] | None]:
        from maskmotion.data.audio import load_audio, require_seconds
        from maskmotion.data.textgrid import frame_words, read_transcript

        audio = require_seconds(load_audio(path), MIN_SECONDS)
        fps = self.recipe.body.fps
        frames = audio.frames(fps)
        words = None if text is None else read_transcript(text, audio.seconds, audio)
        speech = Speech(
            lengths=torch.tensor([frames], device=self.device),
            features={e.key: e(audio.samples, frames, fps)[None].to(self.device) for e in self.extractors},
            audio=audio.samples[None].to(self.device) if self.reads_audio else None,
            speaker=None if speaker is None else torch.tensor([speaker], device=self.device),
            words=None if words is None else frame_words(words, frames, fps)[None].to(self.device),
            fps=fps,
        )
        return audio.samples, speech, words

    def place(
        self, motion: Float[Tensor, "B T D"], root: str = "predicted", start: Float[Tensor, " 3"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """The same motion with translation from the root network, beginning at `start` (default: x = z = 0)."""
        predicted = integrate(self.root.predict(motion), self.recipe.body.fps)
        if root == "in_place":
            predicted = torch.stack([0 * predicted[..., 0], predicted[..., 1], 0 * predicted[..., 2]], dim=-1)
        if start is not None:
            predicted = predicted - predicted[:, :1] + start.to(predicted)
        placed = motion.clone()
        placed[..., TRANSLATION] = predicted
        placed[..., ROTATIONS] = matrix_to_6d(matrix_from_6d(motion[..., ROTATIONS].unflatten(-1, (-1, 6)))).flatten(-2)
        placed[..., CONTACTS] = (motion[..., CONTACTS] > 0.5).to(motion)
        return placed

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write recipe.json, model.safetensors and plugins.json (the plug-ins that the recipe needs). Atomic per file."""
        from maskmotion.training.checkpoint import write_tensors, write_text

        folder = Path(folder)
        write_text(folder / RECIPE, self.recipe.model_dump_json(indent=2))
        write_text(folder / PLUGINS, json.dumps(needed_plugins(self.recipe), indent=2))
        write_tensors(folder / WEIGHTS, self.state_dict())
        return folder

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, revision: str | None = None, local_files_only: bool = False, device: str = "cpu"
    ) -> Model:
        """Load a folder that `save_pretrained` or a run wrote, or a repository of the Hugging Face hub by its id.

        Raises FileNotFoundError when there is neither, RecipeError when a plug-in that the recipe needs is not installed,
        RunError when the recipe builds weights of other shapes, as with a HuBERT of another width.
        """
        from maskmotion.training.checkpoint import put_weights

        recipe, tensors = read_saved(path_or_id, revision, local_files_only)
        model = cls.build(recipe)
        put_weights(model, tensors, path_or_id)
        return model.to(device).eval()


def read_saved(
    path_or_id: str | Path, revision: str | None = None, local_files_only: bool = False
) -> tuple[Recipe, dict[str, Tensor]]:
    """Recipe and weights of a saved model; errors as in `Model.from_pretrained`."""
    from maskmotion.training.checkpoint import read_tensors

    folder = Path(path_or_id)
    if not folder.is_dir():
        folder = _download(str(path_or_id), revision, local_files_only)
    for name in (RECIPE, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: it is no saved model, or no stage of its training has finished yet; "
                f"train it with `maskmotion train PRESET --data DATA --run {folder}`"
            )
    plugins = json.loads((folder / PLUGINS).read_text()) if (folder / PLUGINS).is_file() else {}
    try:
        recipe = Recipe.model_validate_json((folder / RECIPE).read_text())
    except RecipeError as error:
        needs = "; ".join(f"{name} comes from {origin}" for name, origin in plugins.items())
        raise RecipeError(f"{folder / RECIPE}: {error}" + (f"\nit needs plug-ins: {needs}" if needs else "")) from None
    return recipe, read_tensors(folder / WEIGHTS)[0]


def _shape(betas: Tensor | None) -> Tensor:
    """SMPL-X body shape [300] from up to 300 numbers."""
    shape = torch.zeros(300)
    if betas is not None:
        if betas.ndim != 1 or len(betas) > 300:
            raise ValueError(f"betas are up to 300 numbers, got shape {list(betas.shape)}")
        shape[: len(betas)] = betas
    return shape


def needed_plugins(recipe: Recipe) -> dict[str, str]:
    """Component name -> where it comes from, for every component that is not the library's own."""
    from maskmotion.plugins import origin
    from maskmotion.registry import lookup

    found: dict[str, str] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Spec):
            module = lookup(value._kind, value.name).__module__
            if module.split(".")[0] != "maskmotion":
                found[value.name] = origin(module)
            visit(value.arguments)
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)

    visit({name: getattr(recipe, name) for name in Recipe.model_fields} | {"quantizer": recipe.tokenizer.quantizer})
    return found


def _download(name: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    if name.count("/") != 1 or name.startswith((".", "/")):
        raise FileNotFoundError(f"no folder {name}; give a run folder, or a hub id as OWNER/NAME")
    try:
        return Path(
            snapshot_download(
                name, revision=revision, local_files_only=local_files_only, allow_patterns=["*.json", "*.safetensors"]
            )
        )
    except Exception as error:  # the hub's client has many errors for one fact
        raise FileNotFoundError(
            f"no folder {name}, and the hub did not give it ({type(error).__name__}: {error})"
        ) from error
