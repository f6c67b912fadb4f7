"""Shape annotations, `Float[Tensor, "B T D"]`: jaxtyping's where it is installed (the tests check them), inert elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:  # users need no jaxtyping: annotations stay strings and nothing evaluates them

        class _Inert:
            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int = _Inert

__all__ = ["Bool", "Float", "Int"]
