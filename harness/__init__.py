"""OptGrid races optimizers: optimizer × learning rate × seed grids as compiled TensorFlow programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.results import Results
    from harness.study import Study

__all__ = ["Results", "Study"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import harness` costs nothing where only a part of it is used.
    if name == "Study":
        from harness.study import Study

        return Study
    if name == "Results":
        from harness.results import Results

        return Results
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
