"""Which errors are a user's to mend: told in a sentence on the command line, without a traceback."""

from __future__ import annotations


def is_expected(error: Exception) -> bool:
    """True for errors that say what is wrong with the user's input, files or folders."""
    from maskmotion.config import RecipeError
    from maskmotion.registry import RegistryError
    from maskmotion.training.checkpoint import RunError
    from maskmotion.training.loop import TrainingDiverged

    known = (RecipeError, RegistryError, RunError, TrainingDiverged, ValueError, FileNotFoundError, PermissionError)
    return isinstance(error, (*known, FileExistsError, ImportError, IsADirectoryError, NotADirectoryError))
