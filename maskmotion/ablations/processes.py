"""Jobs in processes of their own: one thread each, some at a time, never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from maskmotion.ablations.jobs import Job
from maskmotion.training.checkpoint import RunError, write_text

JOB, OUTPUT = "job.json", "output.txt"
_PAUSE = 0.2  # seconds between two looks at the processes
_PATIENCE = 15.0  # seconds that processes of a killed run are waited for
Tick = Callable[[Sequence["Task"]], None]


@dataclass(frozen=True)
class Task:
    """A job with its name for people, and the jobs whose results it needs."""

    name: str
    job: Job
    needs: tuple[Job, ...] = ()


def run_here(tasks: Sequence[Task], tick: Tick) -> None:
    """One after the other in this process, with one thread; it sees components that only this process knows."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for task in tasks:
            if task.job.result is None:
                tick([task])
                task.job.perform()
    finally:
        torch.set_num_threads(threads)


def run_apart(tasks: Sequence[Task], at_once: int, tick: Tick, held: int | None = None) -> None:
    """`at_once` processes at a time, in the order of the tasks; `tick` is told what runs, several times a second.

    held: file descriptor of the folder's lock, which lives as long as any of the processes. Raises RunError with the last
    lines of a job that fails; then, and when interrupted, all are ended: the same call goes on where it stopped.
    """
    waiting = [task for task in tasks if task.job.result is None]
    running: list[tuple[Task, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            ready = [task for task in waiting if all(job.result is not None for job in task.needs)]
            for task in ready[: max(0, at_once - len(running))]:
                waiting.remove(task)
                running.append((task, _start(task.job, held)))
            tick([task for task, _ in running])
            time.sleep(_PAUSE)
            for task, process in list(running):
                if process.poll() is not None:
                    running.remove((task, process))
                    _check(task, process.returncode)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()


def _start(job: Job, held: int | None) -> subprocess.Popen[bytes]:
    """The process of a job. Its standard input stays open as long as this process lives, and it ends with it."""
    write_text(job.folder / JOB, job.model_dump_json(indent=1))
    command = [sys.executable, "-m", "maskmotion.ablations.work", str(job.folder / JOB)]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    path = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with (job.folder / OUTPUT).open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | one_thread | path,
            pass_fds=() if held is None else (held,),
        )


def _check(task: Task, status: int) -> None:
    if status == 0 and task.job.result is not None:
        return
    told = (task.job.folder / OUTPUT).read_text(encoding="utf-8", errors="replace").strip()
    last = told.rsplit("error: ", 1)[-1] if status == 2 and "error: " in told else told[-2000:]
    raise RunError(f"{task.name} failed (exit status {status}): {last}")


@contextmanager
def only_one(folder: Path) -> Iterator[int | None]:
    """Hold the folder's lock: two runs would write over each other. Yields its file descriptor.

    Processes of a run that was killed hold the lock too; they end by themselves and are waited for. RunError while
    another run is at work. Where the system has no such locks, there is none.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise RunError(
                        f"another ablation is at work in {folder}; wait for it, or give another --run"
                    ) from None
                time.sleep(_PAUSE)
        yield file.fileno()
