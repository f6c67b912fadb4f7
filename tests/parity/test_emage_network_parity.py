"""EMAGE's released networks, number by number: stages, outputs, whole clips, losses, and the graphs of 2024."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from cases import GOLDEN, arrays, emage_cases, files, present, present_file, read_json
from official_files import SIZES
from recipe import emage_weights
from safetensors.torch import load_file

import maskmotion as mm
from maskmotion.generators.emage_release_clip import released_windows
from maskmotion.motion.layout import EXPRESSIONS, ROTATIONS
from maskmotion.motion.rotations import axis_angle_from_6d, axis_angle_to_6d, matrix_from_6d, matrix_to_6d
from maskmotion.nn.transformer import positions
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.tokenizers.root import integrate
from maskmotion.training.convert import convert
from maskmotion.training.official import other_network
from maskmotion.training.official_emage import POSITIONS, build_emage, emage_keys
from maskmotion.types import Batch, Condition

LATENT, DECODED, ROTATED, LOSS = 1e-4, 1e-5, 1e-3, 1e-5
PARTS = tuple(SIZES)
OUTPUTS = tuple(f"{kind}_{part}" for kind in ("rec", "cls") for part in PARTS)
BRANCHES = ("face", "body")
BODY = PARTS[1:]
STAGES = {
    "motion_encoder": "see",
    **{f"bodyhints_{branch}": f"hints.{branch}" for branch in BRANCHES},
    **{f"audio_encoder_{branch}": f"conditioners.{branch}_audio.encoder" for branch in BRANCHES},
    **{"audio_face_motion_proj": "face_memory", "face_motion_decoder": "face.3", "face_out_proj": "heads.face.latents"},
    **{"moton_proj": "from_hints", "motion_self_encoder": "gather", "audio_body_motion_proj": "from_sound"},
    "audio_motion_cross_attn": "listen.7",
    **{f"motion2latent_{part}": f"split.{part}" for part in BODY},
    **{f"body_motion_decoder_{part}": f"refine.{part}" for part in BODY},
}
PLACES = tuple(f"pos_call{call}_{side}" for call in range(3) for side in ("in", "out"))
INPUTS = ("audio", "speaker_id", "masked_motion", "mask")
FORWARD = (*INPUTS, *(f"stage.{name}" for name in (*STAGES, *PLACES)), *(f"out.{name}" for name in OUTPUTS))
NO_AUDIO = tuple(f"noaudio.{name}" for name in OUTPUTS)
DECODED_AS = ("expression", "all_motion4inference", "motion_axis_angle", "trans")
INFER = (
    *(*INPUTS, "ref_trans", *(f"lat.{name}" for name in OUTPUTS)),
    *(*(f"idx.{part}" for part in BODY), *(f"dec.{name}" for name in DECODED_AS)),
)
HELD = re.compile(r"emage/(?P<size>\w+?)_(?P<stem>(forward|infer)_\w+|train_losses)\.npz")
FOUND = sorted({found["stem"] for name in files() if (found := HELD.fullmatch(name))})


def stems(kind: str, *known: str) -> list[str]:
    return list(dict.fromkeys([*known, *(stem for stem in FOUND if stem.startswith(kind))]))


def cases(kind: str, *known: str, arrays_of) -> list:
    return [
        pytest.param(stem, *case.values, marks=case.marks, id=f"{stem}-{case.id}")
        for stem in stems(kind, *known)
        for case in emage_cases(stem, arrays_of(stem))
    ]


@pytest.fixture(scope="module")
def emage_model(tmp_path_factory, emage_tokenizers):
    """Size -> the converted model: from the folder of fixtures, at full size from the recipe."""

    @functools.cache
    def of(size: str) -> mm.Model:
        if size != "full":
            present_file(f"emage/{size}/model.safetensors")
            target = tmp_path_factory.mktemp(size) / "model"
            convert(GOLDEN / "emage" / size, target)
            return mm.Model.from_pretrained(target)
        state = mm.Model.build(mm.preset("emage-release")).generator.state_dict()
        shapes = {name: tuple(state[ours].shape) for name, ours in emage_keys({}).items()}
        shapes["mask_embedding"] = (1, 1, *shapes["mask_embedding"])
        return build_emage(emage_weights(shapes, "full/main", 0.1), 2025, emage_tokenizers("full"))

    return of


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= tolerance


def whole(motion):
    """The release's 337 columns and no expressions."""
    return torch.cat([motion, torch.zeros(*motion.shape[:2], 100, dtype=motion.dtype)], dim=-1)


@contextmanager
def watched(generator, modules: dict[str, str]) -> Iterator[dict[str, torch.Tensor]]:
    """Name -> what a module gives; and what goes into and comes out of every addition of positions."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        generator.get_submodule(path).register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
        for name, path in modules.items()
    ]
    place, calls = generator.at_place, iter(range(9))

    def at_place(x):
        call = next(calls)
        seen[f"pos_call{call}_in"] = x
        seen[f"pos_call{call}_out"] = place(x)
        return seen[f"pos_call{call}_out"]

    generator.at_place = at_place
    yield seen
    del generator.at_place
    for hook in hooks:
        hook.remove()


@functools.cache
def forward(model: mm.Model, stem: str, size: str, speech: bool):
    given = arrays(f"emage/{size}_{stem}.npz")
    valid = torch.ones(given["mask"].shape[:2], dtype=torch.bool)
    batch = Batch(whole(given["masked_motion"]), valid, given["audio"], given["speaker_id"][:, 0])
    hidden = whole(given["mask"].bool())
    with torch.no_grad(), watched(model.generator, STAGES) as seen:
        out = model.generator.predict(batch.motion, hidden, valid, model.generator.condition(batch), speech=speech)
    return named(out.latents, out.logits), seen


def named(latents, logits):
    return {f"rec_{p}": x[:, :, 0] for p, x in latents.items()} | {f"cls_{p}": x[:, :, 0] for p, x in logits.items()}


@pytest.mark.parametrize(
    ("stem", "size", "array"),
    cases(
        "forward",
        "forward_64",
        "forward_20",
        arrays_of=lambda stem: (*FORWARD, *(NO_AUDIO if stem[-2:] == "64" else ())),
    ),
)
def test_parity_of_a_window(stem, size, array, emage_model):
    file = f"emage/{size}_{stem}.npz"
    expected = present(arrays(file), array, file)
    assert array in (*FORWARD, *NO_AUDIO), f"{file} has an array that is not known"
    if array in INPUTS:
        return _input(array, expected)
    group, name = array.split(".")
    out, seen = forward(emage_model(size), stem, size, group != "noaudio")
    close((seen if group == "stage" else out)[name], expected, LATENT)


def _input(name, values):
    assert {"audio": 2, "speaker_id": 2}.get(name, 3) == values.ndim
    assert name not in ("mask", "masked_motion") or values.shape[2] == 337


@functools.cache
def generated(model: mm.Model, stem: str, size: str):
    """What a clip's windows said, joined, and its motion and path."""
    given = arrays(f"emage/{size}_{stem}.npz")
    source = given if "audio" in given else arrays(f"emage/{size}_infer_hint.npz")
    audio, motion = source["audio"], source.get("masked_motion")
    frames = audio.shape[1] * 30 // 16000
    speech = Speech(torch.full((len(audio),), frames), audio=audio, speaker=source["speaker_id"][:, 0])
    generator, said = model.generator, []
    seed = generator.body.layout.rest.expand(len(audio), 4, -1) if motion is None else whole(motion)[:, :4]
    hints = (whole(motion), whole(source["mask"] == 0)) if "mask" in given else None
    say = generator.say
    generator.say = lambda found: said.append(say(found)) or said[-1]
    with torch.inference_mode():
        window = generate_clip(generator, speech, seed, 64, hints=hints)
        path = integrate(model.root.predict(window.motion), 30, source.get("ref_trans"))
    del generator.say
    plan = released_windows(frames)
    assert len(plan) == len(said)
    rows = [named(one.latents, one.logits) for one in said]
    return {n: torch.cat([r[n][:, : p.keep] for r, p in zip(rows, plan)], 1) for n in OUTPUTS}, window.motion, path


@pytest.mark.parametrize(
    ("stem", "size", "array"),
    cases("infer", "infer_nohint", "infer_hint", "infer_seed", "infer_batch2", arrays_of=lambda stem: ()),
)
def test_parity_of_a_clip(stem, size, array, emage_model):
    file = f"emage/{size}_{stem}.npz"
    expected = present(arrays(file), array, file)
    assert array in INFER, f"{file} has an array that is not known"
    if array in INPUTS:
        return _input(array, expected)
    if array == "ref_trans":
        assert expected.shape[-1] == 3
        return None
    out, motion, path = generated(emage_model(size), stem, size)
    group, name = array.split(".")
    rotations = matrix_to_6d(matrix_from_6d(motion[..., ROTATIONS].unflatten(-1, (-1, 6))))
    if group == "lat":
        close(out[name], expected, LATENT)
    elif group == "idx":
        assert torch.equal(out[f"cls_{name}"].argmax(-1), expected)
    elif name == "trans":
        close(path, expected, DECODED)
    elif name == "expression":
        close(motion[..., EXPRESSIONS], expected, DECODED)
    elif name == "motion_axis_angle":
        close(axis_angle_from_6d(rotations).flatten(-2), expected, ROTATED)
    else:
        close(rotations.flatten(-2), expected[..., ROTATIONS], ROTATED)
        close(motion[..., 330:337], expected[..., 330:], DECODED)


@pytest.mark.parametrize("size", ["small", "full"])
def test_parity_of_the_lengths_of_clips(size, golden):
    file = f"emage/{size}_info.json"
    table = present(read_json(file), "length_table", file)
    assert set(read_json(file)) <= {f"{n}_margins" for n in ("nohint", "hint", "seed", "batch2")} | {
        *("nohint_frames_in", "nohint_frames_out", "length_table")
    }, f"{file} has a key that is not known"
    for frames, kept in [*table, [read_json(file)["nohint_frames_in"], read_json(file)["nohint_frames_out"]]]:
        if kept < 0:
            with pytest.raises(ValueError, match="too short"):
                released_windows(frames)
        else:
            assert sum(piece.keep for piece in released_windows(frames)) == kept


LOSSES = {"latents": "rec", "codes": "cls"}
TRAIN_INPUTS = ("axis_angle", "audio", "expressions", "trans", "foot_contact", "mask_it0")
HELPER = ("v2p_vel", "v2p_init", "v2p_out")
TRAIN = (
    *(*TRAIN_INPUTS, *HELPER),
    *(f"it{n}.{kind}_{one}" for n in (0, 20) for kind in LOSSES.values() for one in ("seed", "audio", "mask")),
    *(f"it{n}.{name}" for n in (0, 20) for name in ("all", "mask_ratio", "mask_mean")),
)


@functools.cache
def step(model: mm.Model, size: str, iteration: int):
    """The losses of a training step at this iteration, under their names in the fixture, and what was hidden."""
    given = arrays(f"emage/{size}_train_losses.npz")
    rotations = axis_angle_to_6d(given["axis_angle"].unflatten(-1, (-1, 3))).flatten(-2)
    motion = torch.cat([rotations, *(given[name] for name in ("trans", "foot_contact", "expressions"))], dim=-1)
    rows = len(motion)
    batch = Batch(motion, torch.ones(motion.shape[:2], dtype=torch.bool), given["audio"], torch.zeros(rows).long())
    generator, masker = model.generator, model.generator.masker
    hidden = masker(mm.MaskContext(batch, {}, iteration / 100_000))
    mask = whole(given["mask_it0"]) if iteration == 0 else hidden
    generator.masker = type("Given", (mm.Masker,), {"scores": None, "forward": lambda self, context: mask})()
    with torch.no_grad():
        losses = generator(batch, teacher=generator, progress=iteration / 100_000, stage="generator")
    generator.masker = masker
    found = {f"{LOSSES[name.split('/')[1]]}_{name.split('/')[0]}": float(loss) for name, loss in losses.items()}
    ratio = mm.value_at(masker.ratio, iteration / 100_000)
    share = mask[..., :337].float().mean().item()
    return {**found, "all": sum(found.values()), "mask_ratio": ratio, "mask_mean": share}


@pytest.mark.parametrize(("size", "array"), emage_cases("train_losses", TRAIN))
def test_parity_of_a_training_step(size, array, emage_model):
    file = f"emage/{size}_train_losses.npz"
    given = arrays(file)
    expected = present(given, array, file)
    assert array in TRAIN, f"{file} has an array that is not known"
    if array in HELPER:
        velocity, start = given["v2p_vel"], given["v2p_init"]
        path = integrate(torch.cat([velocity, 0 * velocity, velocity], -1), 30, start.expand(-1, 3))
        return close(path[..., 0], given["v2p_out"][..., 0], DECODED)
    if array in TRAIN_INPUTS:
        assert expected.shape[0] == 2
        return None
    iteration, name = re.fullmatch(r"it(\d+)\.(\w+)", array).groups()
    found = step(emage_model(size), size, int(iteration))[name]
    assert found == pytest.approx(expected.item(), rel=LOSS)


KINDS = ("audio", "text")
SETTINGS = ("attn1_word1", "attn1_word0", "attn0_word1")
LENGTHS = ("equal", "longer", "shorter")
HEARD = ("audio_face", "cra_in_face", "cra_logits_face", "face_memory_in", "fusion_body")
ERA = ("audio", "word", "id", "motion", "mask", *HEARD, *(f"{s}.{name}" for s in SETTINGS for name in OUTPUTS))


def era_cases() -> list:
    held = {kind: arrays(f"emage/paper_era/emage_{kind}_small_forward.npz") for kind in KINDS}
    return [(kind, array) for kind in KINDS for array in held[kind]] or [("audio", "the file"), ("text", "the file")]


@pytest.fixture(scope="module")
def model_of_2024(emage_tokenizers):
    @functools.cache
    def of(kind: str) -> mm.Model:
        tensors = load_file(present_file(f"emage/paper_era/emage_{kind}_small.safetensors"))
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
        network = other_network(tensors)
        assert network is not None and network.file == f"emage_{kind}_2024"
        used = {name: value for name, value in tensors.items() if not network.is_dead(name)}
        return build_emage(used, 2024, emage_tokenizers("small"))

    return of


@functools.cache
def forward_of_2024(model: mm.Model, kind: str, case: str, setting: str):
    given = arrays(f"emage/paper_era/emage_{kind}_small_forward.npz")
    x = {name.partition(".")[2]: value for name, value in given.items() if name.startswith(f"{case}.")}
    generator = model.generator
    valid = torch.ones(x["mask"].shape[:2], dtype=torch.bool)
    assert bool((x["id"] == x["id"][:, :1]).all()), "one speaker a row"
    sound = {"audio": torch.zeros(2, 34133), "features": {"onset-amplitude-v1": torch.zeros(2, 64, 1066)}}
    batch = Batch(whole(x["motion"]), valid, speaker=x["id"][:, 0, 0], **sound)
    conditions = generator.condition(batch)
    seen: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for branch in BRANCHES:
            signal = x["audio"] if x["audio"].ndim == 3 else x["audio"][..., None]
            features = generator.conditioners[f"{branch}_audio"].encoder(signal)
            conditions[f"{branch}_audio"] = Condition(features, torch.ones(features.shape[:2], dtype=torch.bool))
            if kind == "text":
                table = generator.conditioners[f"{branch}_words"].table
                conditions[f"{branch}_words"] = Condition(table(x["word"]), valid)
        seen["audio_face"] = conditions["face_audio"].features
        keep = [generator.face_memory.register_forward_hook(lambda _, i, o: seen.__setitem__("face_memory_in", i[0]))]
        gates = {branch: generator.hear[branch].gate for branch in BRANCHES}
        if kind == "text":
            both = ("cra_in_face", "cra_logits_face")
            keep += [gates["face"].register_forward_hook(lambda _, i, o: seen.update(zip(both, (i[0], o))))]
        keep += [generator.hear["body"].register_forward_hook(lambda _, i, o: seen.__setitem__("fusion_body", o[0]))]
        for branch in BRANCHES if setting.startswith("attn0") else ():
            generator.hear[branch].gate = None
        out = generator.predict(
            batch.motion, whole(x["mask"].bool()), valid, conditions, speech=setting.endswith("word1")
        )
        for branch in BRANCHES:
            generator.hear[branch].gate = gates[branch]
        for hook in keep:
            hook.remove()
    return named(out.latents, out.logits), seen


@pytest.mark.parametrize(("kind", "array"), era_cases())
def test_parity_of_the_networks_of_2024(kind, array, model_of_2024):
    file = f"emage/paper_era/emage_{kind}_small_forward.npz"
    expected = present(arrays(file), array, file)
    case, _, name = array.partition(".")
    assert case in LENGTHS and name in ERA, f"{file} has an array that is not known"
    if name in ("audio", "word", "id", "motion", "mask"):
        assert expected.shape[0] == 2
        return
    setting, _, output = name.partition(".")
    out, seen = forward_of_2024(model_of_2024(kind), kind, case, setting if output else SETTINGS[0])
    close(out[output] if output else seen[name], expected, LATENT)


def test_parity_of_a_network_with_a_foreign_table_of_positions(emage_model, emage_tokenizers):
    tensors = load_file(present_file("emage/small/model.safetensors"))
    network = other_network(tensors)
    used = {name: value for name, value in tensors.items() if not network.is_dead(name)}
    assert torch.allclose(used[POSITIONS][0, :64], positions(64, 64, torch.zeros(())), atol=1e-5)
    build_emage(used, 2025, emage_tokenizers("small"))
    with pytest.raises(ValueError, match="not the sinusoidal table"):
        build_emage(used | {POSITIONS: used[POSITIONS].flip(1)}, 2025, emage_tokenizers("small"))


def test_parity_of_the_recipe_that_full_size_is_drawn_from():
    tensors = load_file(present_file("emage/small/model.safetensors"))
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    drawn = emage_weights(shapes, "small/main", 0.1)
    assert set(shapes) == {*drawn, POSITIONS}
    assert all(torch.equal(value, tensors[name].to(value)) for name, value in drawn.items())
