"""The verbs of `maskmotion view`: pictures of what a model does with a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskmotion.model import Model

view_app = typer.Typer(
    help="Pictures of a model: what it hides, how speech looks at motion, the space they share.", no_args_is_help=True
)

WINDOWS = 6  # of a clip that the picture of masks shows, where nothing else is said

Run = Annotated[str, typer.Argument(help="run folder, saved model or hub id")]
Runs = Annotated[list[str], typer.Argument(help="run folders, saved models or hub ids; each is its rows' teacher")]
Data = Annotated[str, typer.Option("--data", help="'planted' (made on first use) or the path of a BEAT2 tree")]
ClipName = Annotated[
    str | None,
    typer.Option(
        "--clip", help="id of a recording in --data, a motion npz or a speech file; default: the first of test"
    ),
]
SpeechFile = Annotated[Path | None, typer.Option("--speech", help="sound of a motion npz")]
Text = Annotated[Path | None, typer.Option("--text", help="transcript of a file of yours, TextGrid or plain text")]
Start = Annotated[float | None, typer.Option("--start", help="seconds; default: where meaning comes and goes", min=0)]
Device = Annotated[str, typer.Option("--device", help="where to compute: cpu, cuda or mps")]


@view_app.command("masks")
def view_masks(
    runs: Runs,
    out: Annotated[Path, typer.Option("--out", "-o", help="png to write")] = Path("masks.png"),
    data: Data = "planted",
    clip: ClipName = None,
    speech: SpeechFile = None,
    text: Text = None,
    start: Start = None,
    seconds: Annotated[float | None, typer.Option(help="length of the stretch; default: six windows", min=0.1)] = None,
    masker: Annotated[
        list[str] | None,
        typer.Option(help="repeat for more rows; 'own' is the model's. Default: random, loss_based and speech_queried"),
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="share hidden; default: as in training", min=0, max=1)] = None,
    seed: Annotated[int, typer.Option(help="of the random draws")] = 0,
    device: Device = "cpu",
) -> None:
    """What masking strategies hide in a clip with this model as teacher, under the speech and its meaning.

    Several models are compared by the masker that each was trained with.

    Examples:

        maskmotion view masks runs/queried -o masks.png

        maskmotion view masks runs/random runs/queried --clip 1_amaro_0_3_3 --start 4

        maskmotion view masks runs/queried --clip gesture.npz --speech speech.wav --masker speech_queried --masker span
    """
    from maskmotion.views import excerpt, masking_rows, open_clip, plot_masks, spoken

    models = _models(runs, device)
    first = next(iter(models.values()))
    whole = open_clip(clip, data, model=first, speech=speech, text=text)
    body = first.recipe.body
    shown = excerpt(whole, seconds or WINDOWS * body.window / body.fps, start)
    rows = masking_rows(models, shown, masker, ratio, seed)
    title = (
        shown.name if len(models) > 1 else f"{shown.name}: what each strategy hides, {next(iter(models))} as teacher"
    )
    print(plot_masks(out, rows=rows, title=title, **spoken(shown)))


@view_app.command("attention")
def view_attention(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", help="png to write")] = Path("attention.png"),
    data: Data = "planted",
    clip: ClipName = None,
    speech: SpeechFile = None,
    text: Text = None,
    start: Start = None,
    device: Device = "cpu",
) -> None:
    """How the speech of one window looks at its motion: all parts together, each part, and the frame scores.

    Examples:

        maskmotion view attention runs/queried -o attention.png

        maskmotion view attention runs/queried --clip gesture.npz --speech speech.wav --text speech.TextGrid --start 2.5
    """
    from maskmotion.views import attention_map, open_clip, plot_attention, spoken

    ((name, model),) = _models([run], device).items()
    attention, shown = attention_map(model, open_clip(clip, data, model=model, speech=speech, text=text), start)
    print(plot_attention(out, attention=attention, title=f"{name}: {shown.name}", **spoken(shown)))


@view_app.command("space")
def view_space(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", help="png to write")] = Path("space.png"),
    data: Data = "planted",
    clip: Annotated[list[str] | None, typer.Option("--clip", help="ids of recordings; repeat for more")] = None,
    clips: Annotated[int, typer.Option(help="how many held-out recordings, where none is named", min=1)] = 8,
    part: Annotated[
        str | None, typer.Option(help="body part, for a model that aligns each; default: the first")
    ] = None,
    windows: Annotated[int, typer.Option(help="windows that are drawn; the numbers are of all", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="of t-SNE")] = 0,
    device: Device = "cpu",
) -> None:
    """The space that speech and motion share, before and after the alignment, and how well speech finds its motion.

    Needs a model with the conditioner `aligned`.

    Examples:

        maskmotion view space runs/echomask -o space.png

        maskmotion view space runs/echomask --clips 20 --part upper
    """
    from maskmotion.views import joint_space, open_clip, plot_space
    from maskmotion.views.clips import held_out
    from maskmotion.views.space import tell

    ((name, model),) = _models([run], device).items()
    chosen = [open_clip(one, data) for one in clip or held_out(data, clips)]
    spaces = joint_space(model, chosen)
    part = part or next(iter(spaces))
    if part not in spaces:
        raise typer.BadParameter(f"no space of {part!r}; {name} has: {', '.join(spaces)}")
    for line in tell(spaces):
        print(line)
    title = f"{name}: the space of speech and motion" + (f", {part}" if len(spaces) > 1 else "")
    print(plot_space(out, stages=spaces[part], windows=windows, seed=seed, title=title))


def _models(runs: list[str], device: str) -> dict[str, Model]:
    """By the last name of their folders, or by the whole path where two have the same."""
    from maskmotion.model import Model

    last = [Path(run).resolve().name for run in runs]
    names = last if len(set(last)) == len(runs) else runs
    return {name: Model.from_pretrained(run, device=device) for name, run in zip(names, runs)}
