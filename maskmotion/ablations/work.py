"""The process of one job: `python -m maskmotion.ablations.work JOB.json`, as `processes` starts it."""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path


def main(path: str) -> None:
    """Perform the job in a file with one thread; exit status 2 and a sentence for what the user can mend."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    for name in data.get("imports", ()):
        import_module(name)  # registers the components of the user's own that the recipes name

    import torch

    from maskmotion.ablations.jobs import Job
    from maskmotion.errors import is_expected

    torch.set_num_threads(1)
    try:
        Job.model_validate(data).perform()
    except Exception as error:
        if not is_expected(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _end_with_the_parent() -> None:
    """Standard input is a pipe that nobody writes to; it ends when the process that started this one does."""
    while os.read(0, 1):
        pass
    os._exit(3)


if __name__ == "__main__":
    main(sys.argv[1])
