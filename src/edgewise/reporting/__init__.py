"""Results, drawn: on pages of HTML and in the terminal. A room is entered when something is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewise.reporting.pages import report

__all__ = ["report"]


def __getattr__(name: str) -> Any:
    if name != "report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgewise.reporting.pages import report

    return report
