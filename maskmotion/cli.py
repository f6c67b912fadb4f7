"""The command line: verbs. Hyper-parameters are `path=value` checked by the recipe; run-time things are flags."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from maskmotion.cli_ablate import ablate
from maskmotion.cli_data import data_app
from maskmotion.cli_evaluate import evaluate
from maskmotion.cli_view import view_app

app = typer.Typer(
    name="maskmotion",
    help="Masked motion modeling: train models that hide part of a motion and learn to fill it in from speech.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.command()(evaluate)
app.command()(ablate)
app.add_typer(view_app, name="view")

Changes = Annotated[list[str] | None, typer.Argument(help="recipe changes, path=value, e.g. masker.ratio=0.5 seed=1")]
RunFolder = Annotated[
    Path, typer.Option("--run", help="folder of the run; an interrupted one goes on where it stopped")
]
Data = Annotated[str, typer.Option("--data", help="'planted' (made on first use) or the path of a BEAT2 tree")]
DataSets = Annotated[
    list[str] | None,
    typer.Option("--data", help="'planted', or the path of a BEAT2 tree; repeat it for data sets that may lack parts"),
]
Device = Annotated[str, typer.Option("--device", help="'auto' takes an accelerator where there is one; or 'cpu'")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; default: all", min=1)]


@app.command()
def train(
    preset: Annotated[str, typer.Argument(help="a preset; `maskmotion list` shows them")],
    changes: Changes = None,
    run: RunFolder = Path("runs/model"),
    data: DataSets = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="run or converted folder whose tokenizers and root network are taken over, with their plan"),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="full, small or tiny, for the published methods")] = None,
    stages: Annotated[str | None, typer.Option(help="only these stages, e.g. tokenizer,root")] = None,
    body_model: Annotated[Path | None, typer.Option(help="your SMPL-X npz, for losses on vertices")] = None,
    device: Device = "auto",
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bars")] = False,
) -> None:
    """Train every stage of a preset: tokenizers, root translation, generator.

    Examples:

        maskmotion train tiny --data planted --run runs/random

        maskmotion train tiny masker=speech_queried masker.ratio=0.5 generator.semantic=1 --run runs/queried

        maskmotion train tiny --data PATH/TO/beat_english_v2.0.0 --run runs/beat2

        maskmotion train emage --data PATH/TO/beat_english_v2.0.0 --data PATH/TO/amass --run runs/both
    """
    import maskmotion as mm

    _set_threads(threads)
    changed = parse_changes(changes or [])
    recipe = mm.preset(preset, scale).but(changed)
    if tokenizer is not None and not any(path.split(".")[0] in ("body", "tokenizer", "root") for path in changed):
        recipe = recipe.but(mm.Tokenizers.from_pretrained(tokenizer).plan.changes())
    only = None if stages is None else stages.split(",")
    model = mm.train(
        recipe,
        data or ["planted"],
        run,
        tokenizer=tokenizer,
        only=only,
        device=device,
        show=not quiet,
        body_model=body_model,
    )
    print(
        f"{run}: {recipe.name} with {sum(p.numel() for p in model.parameters()):,} weights, log in {run / 'log.jsonl'}"
    )
    for line in _best_measured(run):
        print(line)


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="run folder, saved model or hub id")],
    speech: Annotated[Path, typer.Argument(help="audio file of at least 0.2 s")],
    out: Annotated[Path, typer.Argument(help="BEAT2 npz to write; opens in Blender's SMPL-X add-on")],
    speaker: Annotated[int | None, typer.Option(help="index of the speaker's style")] = None,
    text: Annotated[Path | None, typer.Option(help="transcript, TextGrid or plain text; never required")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: the most likely motion; 1: drawn as learned")] = 0.0,
    variants: Annotated[int, typer.Option(min=1, help="how many different clips; OUT-1.npz, OUT-2.npz, ...")] = 1,
    seed: Annotated[int, typer.Option(help="of the random draws")] = 0,
    root: Annotated[str, typer.Option(help="'predicted' walks, 'in_place' stays at the start position")] = "predicted",
    start: Annotated[
        tuple[float, float, float] | None, typer.Option(help="first root position x y z in metres")
    ] = None,
    betas: Annotated[Path | None, typer.Option(help="npz whose `betas` are the body shape to write")] = None,
    hints: Annotated[
        Path | None, typer.Option(help="hint file: frames and joints that are given (docs/hints.md)")
    ] = None,
    keep: Annotated[
        Literal["exact", "soft"],
        typer.Option(help="exact: hints stand in OUT as given; soft: the model sees them only"),
    ] = "exact",
    video: Annotated[Path | None, typer.Option(help="also render a stick figure with the sound, mp4")] = None,
    device: Annotated[Literal["cpu", "cuda", "mps"], typer.Option(help="where to compute")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar")] = False,
) -> None:
    """Turn speech into a motion file: samples * 30 // rate frames, whatever the length.

    Examples:

        maskmotion generate runs/random speech.wav gesture.npz

        maskmotion generate runs/random speech.wav gesture.npz --variants 3 --temperature 1 --video gesture.mp4

        maskmotion generate runs/random speech.wav gesture.npz --hints hints.npz
    """
    import torch

    import maskmotion as mm

    model = mm.Model.from_pretrained(run, device=device)
    options: dict[str, Any] = {
        "speaker": speaker,
        "text": text,
        "root": root,
        "start": None if start is None else torch.tensor(start),
        "betas": None if betas is None else _read_betas(betas),
        "hints": None if hints is None else mm.Hints.read(hints),
        "keep": keep,
        "show": not quiet,
    }
    if variants == 1:
        clips = [model.generate(speech, rng=mm.seed(seed), temperature=temperature, **options)]
    else:
        clips = model.variants(speech, variants, rng=mm.seed(seed), temperature=temperature or 1.0, **options)
    for number, clip in enumerate(clips, 1):
        target = out if variants == 1 else out.with_name(f"{out.stem}-{number}{out.suffix}")
        clip.save(target)
        print(f"{target}: {clip.frames} frames, {clip.frames / clip.fps:.2f} s")
    if video is not None:
        from maskmotion.views.video import render_video

        print(render_video(video, clips[0], progress=not quiet))


@app.command()
def demo(
    changes: Changes = None,
    run: RunFolder = Path("runs/demo"),
    data: Annotated[str, typer.Option("--data", help="'planted' or 'planted-v1-small'")] = "planted",
) -> None:
    """Four masking strategies on the planted corpus: motion, video, masks and a table, in a few minutes on two cores.

    Examples:

        maskmotion demo

        maskmotion demo training.generator.steps=900 --run runs/longer
    """
    from maskmotion.demo import demo as run_demo

    run_demo(run, data, parse_changes(changes or []))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="official folder or file, or a hub id OWNER/NAME")],
    target: Annotated[Path, typer.Argument(help="folder to write; it must not exist")],
) -> None:
    """Turn official tokenizers of EMAGE, SemTalk or EchoMask into a folder that `train --tokenizer` takes.

    Says of every file what was mapped, what was ignored by name, its sha256 and its licence. Weights that are missing or
    unknown are an error, and then nothing is written.

    Examples:

        maskmotion convert H-Liu1997/emage_audio tokenizers/emage

        maskmotion convert PATH/TO/pretrained_vq tokenizers/emage-2024

        maskmotion convert PATH/TO/rvq_upper_500.bin tokenizers/upper
    """
    from maskmotion.training.convert import convert as run_convert

    print(run_convert(source, target).render())


@app.command("list")
def list_components() -> None:
    """Show presets, components and plug-ins, with the first line of what each one is.

    Example:

        maskmotion list
    """
    from rich.console import Console
    from rich.table import Table

    from maskmotion.plugins import broken, loaded
    from maskmotion.registry import KINDS, lookup, names

    table = Table("kind", "name", "what it is", "from")
    for kind in ("preset", *KINDS):
        for name in names(kind):
            thing = lookup(kind, name)
            first = (thing.__doc__ or "").strip().split("\n")[0]
            table.add_row(kind, name, first, thing.__module__)
    for name, distribution in loaded.items():
        table.add_row("plug-in", name, "loaded", distribution)
    for name, error in broken.items():
        table.add_row("[red]plug-in", name, f"[red]{error}", "")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """["masker.ratio=0.5", "masker=span"] -> dotted paths and values; a value is JSON, or else a plain string."""
    parsed: dict[str, Any] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise typer.BadParameter(f"a recipe change is path=value, e.g. masker.ratio=0.5; got {change!r}")
        try:
            parsed[path] = json.loads(text)
        except json.JSONDecodeError:
            parsed[path] = text
    return parsed


def _read_betas(path: Path) -> Any:
    import torch

    from maskmotion.motion.files import read_motion

    return torch.as_tensor(read_motion(path).betas).float()


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _best_measured(run: Path) -> list[str]:
    from maskmotion.training.runs import read_log

    best: dict[str, dict[str, Any]] = {}
    for row in read_log(run / "log.jsonl"):
        if "validation" in row:
            kept = best.setdefault(row["stage"], row)
            best[row["stage"]] = row if row["validation"]["loss"] < kept["validation"]["loss"] else kept
    return [
        f"  {stage}, best at step {row['step']}, held out: "
        + ", ".join(f"{name} {value:.4g}" for name, value in row["validation"].items())
        for stage, row in best.items()
    ]


def main() -> None:
    """Entry point: known errors become one clear message, without a traceback; Ctrl-C says that a run can go on."""
    import warnings

    from maskmotion.errors import is_expected

    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        app()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if not is_expected(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
