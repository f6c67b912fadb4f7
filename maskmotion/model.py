"""Model: a recipe and its built parts. Build, generate, save, load."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskmotion.config import Recipe, RecipeError, build
from maskmotion.interfaces import Conditioner, Extractor, Generator
from maskmotion.motion.layout import CONTACTS, TRANSLATION
from maskmotion.motion.rotations import proper
from maskmotion.progress import progress_bar
from maskmotion.rng import Rng, seed
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.sampling.exact import check_keep, hold, keep_exactly
from maskmotion.sampling.hints import Hints
from maskmotion.saved import HEARS, PLUGINS, RECIPE, WEIGHTS, needed_plugins, read_saved
from maskmotion.shapes import Float
from maskmotion.tokenizers import BodyTokenizer, RootPredictor
from maskmotion.tokenizers.pretrained import build_tokenizers
from maskmotion.tokenizers.root import integrate
from maskmotion.types import Clip

MIN_SECONDS = 0.2  # of speech that motion can be generated for


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
        mean = proper(self.body.mean)
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
        placed = proper(motion)
        placed[..., TRANSLATION] = predicted
        placed[..., CONTACTS] = (motion[..., CONTACTS] > 0.5).to(motion)
        return placed

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write recipe.json, model.safetensors and plugins.json (the plug-ins that the recipe needs). Atomic per file.

        Beside the weights stand the keys of the audio features, which name a pretrained encoder's own weights.
        """
        from maskmotion.training.checkpoint import write_tensors, write_text

        folder = Path(folder)
        write_text(folder / RECIPE, self.recipe.model_dump_json(indent=2))
        write_text(folder / PLUGINS, json.dumps(needed_plugins(self.recipe), indent=2))
        write_tensors(folder / WEIGHTS, self.state_dict(), {HEARS: _heard(self)})
        return folder

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, revision: str | None = None, local_files_only: bool = False, device: str = "cpu"
    ) -> Model:
        """Load a folder that `save_pretrained` or a run wrote, or a repository of the Hugging Face hub by its id.

        Raises FileNotFoundError when there is neither, RecipeError when a plug-in that the recipe needs is not installed,
        RunError when the recipe builds weights of other shapes, as with a HuBERT of another width. Warns where speech is
        heard by another encoder than the one it was saved with.
        """
        from maskmotion.training.checkpoint import put_weights

        recipe, tensors, about = read_saved(path_or_id, revision, local_files_only)
        model = cls.build(recipe)
        put_weights(model, tensors, path_or_id)
        before, now = about.get(HEARS, []), _heard(model)
        if before and now and before != now:
            warnings.warn(
                f"{path_or_id} was saved with speech heard by {', '.join(sorted({*before} - {*now}))}; here it is heard by "
                f"{', '.join(sorted({*now} - {*before}))}, which means other features to it. Copy the encoder that it "
                "learned with (the planted one is speech/ of the cache's folder), or train it again",
                stacklevel=2,
            )
        return model.to(device).eval()


def _heard(model: Model) -> list[str]:
    """Keys of the audio features, none where an encoder is not there to tell."""
    try:
        return sorted(one.key for one in model.extractors)
    except (FileNotFoundError, ValueError):
        return []


def _shape(betas: Tensor | None) -> Tensor:
    """SMPL-X body shape [300] from up to 300 numbers."""
    shape = torch.zeros(300)
    if betas is not None:
        if betas.ndim != 1 or len(betas) > 300:
            raise ValueError(f"betas are up to 300 numbers, got shape {list(betas.shape)}")
        shape[: len(betas)] = betas
    return shape
