"""The verbs of `maskmotion data`: make, speech, check, import, refine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

data_app = typer.Typer(
    help="Make the planted corpus and its speech encoder; check a BEAT2 tree; import mocap; refine motion.",
    no_args_is_help=True,
)


@data_app.command("make")
def data_make(
    folder: Annotated[
        Path | None, typer.Argument(help="where to; default: the cache, where `planted` is looked up")
    ] = None,
    name: Annotated[str, typer.Option(help="planted-v1, planted-v1-small; -body or -body-hands behind")] = "planted-v1",
) -> None:
    """Make the planted corpus, speech and motion with known meanings, in BEAT2's own layout.

    Examples:

        maskmotion data make

        maskmotion data make ./corpora --name planted-v1-small
    """
    from maskmotion.data.planted import planted_root

    print(planted_root(folder, name))


@data_app.command("speech")
def data_speech(
    folder: Annotated[
        Path | None,
        typer.Argument(help='where to; default: the cache, where `speech.checkpoint="planted"` is looked up'),
    ] = None,
    name: Annotated[str, typer.Option(help="planted-v1 or planted-v1-small, whose phones are learned")] = "planted-v1",
    steps: Annotated[int | None, typer.Option(help="training steps; default: enough", min=1)] = None,
    seed: Annotated[int, typer.Option(help="of the training")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar")] = False,
) -> None:
    """Train the small HuBERT that presets at tiny and small scale hear with, on the phones of the planted corpus.

    Says how many phones of held-out clips it gets wrong, and the sha256 of its weights. What is there is not trained again.

    Examples:

        maskmotion data speech

        maskmotion data speech ./speech --name planted-v1-small --steps 100
    """
    from maskmotion.training.phones import STEPS, build_speech

    print(build_speech(folder, name, steps or STEPS, seed, show=not quiet).render())


@data_app.command("check")
def data_check(path: Annotated[Path, typer.Argument(help="a BEAT2 tree, e.g. PATH/TO/beat_english_v2.0.0")]) -> None:
    """Report what is missing, broken or out of step in a BEAT2 tree; exit status 1 when something is.

    Example:

        maskmotion data check PATH/TO/beat_english_v2.0.0
    """
    from maskmotion.data.check import check

    report = check(path)
    print(report.render())
    raise typer.Exit(1 if report.problems else 0)


@data_app.command("import")
def data_import(
    source: Annotated[Path, typer.Argument(help="AMASS npz or BVH: a file, or a folder with its subfolders")],
    target: Annotated[Path, typer.Argument(help="folder to write; it must not exist")],
    kind: Annotated[
        Literal["amass", "bvh"] | None, typer.Option(help="which files; default: those that are there")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="what to keep, e.g. upper,lower; default: what the files have")
    ] = None,
    joints: Annotated[Path | None, typer.Option(help="of BVH: JSON, joint of the file -> SMPL-X joint")] = None,
    up: Annotated[Literal["y", "z"], typer.Option(help="of BVH: the vertical axis")] = "y",
    rest: Annotated[
        Literal["zero", "first"], typer.Option(help="of BVH: rest pose, no rotation or first frame")
    ] = "zero",
) -> None:
    """Write body mocap as a tree that `train --data` takes after a whole data set; exit status 1 when files are left out.

    Examples:

        maskmotion data import PATH/TO/AMASS ./amass

        maskmotion data import PATH/TO/trinity ./trinity --parts upper

        maskmotion data import PATH/TO/mocap ./mocap --joints joints.json --up z
    """
    from maskmotion.data.importing import import_mocap

    kept = None if parts is None else tuple(parts.split(","))
    done = import_mocap(source, target, kind=kind, parts=kept, joints=joints, up=up, rest=rest)
    print(done.render())
    raise typer.Exit(1 if done.problems else 0)


@data_app.command("refine")
def data_refine(
    source: Annotated[Path, typer.Argument(help="a BEAT2 tree")],
    target: Annotated[Path, typer.Argument(help="folder to write; it must not exist")],
    sigma: Annotated[
        float | None, typer.Option(help="truncate joint rotations at so many standard deviations, e.g. 3")
    ] = None,
    over: Annotated[Literal["tree", "clip"], typer.Option(help="of whose rotations the deviations are")] = "tree",
    fingers: Annotated[bool, typer.Option("--fingers", help="keep fingers within joint limits")] = False,
    body_model: Annotated[
        Path | None, typer.Option(help="SMPL-X npz whose mean hands the poses are relative to; BEAT2's are")
    ] = None,
    arkit: Annotated[Path | None, typer.Option(help="folder of ID.json or ID.csv with ARKit weights")] = None,
    matrix: Annotated[Path | None, typer.Option(help="npy [51, 103]: weights to expressions and jaw")] = None,
    arkit_fps: Annotated[float | None, typer.Option(help="frame rate of csv files without times", min=1)] = None,
) -> None:
    """Write a tree again with outliers truncated, fingers that do not bend back, or the face from ARKit weights.

    Examples:

        maskmotion data refine PATH/TO/tree ./refined --sigma 3

        maskmotion data refine PATH/TO/tree ./refined --fingers --body-model SMPLX_NEUTRAL_2020.npz

        maskmotion data refine PATH/TO/tree ./refined --arkit PATH/TO/weights --matrix mat_final.npy
    """
    from maskmotion.data.refining import refine_tree

    done = refine_tree(
        source,
        target,
        sigma=sigma,
        over=over,
        fingers=fingers,
        body_model=body_model,
        arkit=arkit,
        matrix=matrix,
        arkit_fps=arkit_fps,
    )
    print(done.render())
