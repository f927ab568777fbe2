"""Settings of ACDC's variants that use attribution, or groups of edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgewise.errors import SettingError
from edgewise.settings.acdc import ACDCSettings
from edgewise.settings.checks import check_choice, setting, share

Attribution = Literal["eap-ig", "eap", "clean-corrupted", "exact", "atp-star"]


@dataclass(frozen=True)
class OrderedACDCSettings(ACDCSettings):
    """Settings of ACDC that tests the least attributed edge of each receiver first."""

    attribution: Attribution = setting(
        "The method whose scores say which edges matter least.", default="eap-ig"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("attribution", self.attribution, get_args(Attribution))


@dataclass(frozen=True)
class ScreenedACDCSettings(OrderedACDCSettings):
    """Settings of ACDC on what is left when the least attributed edges are removed untested."""

    screen: float = setting(
        "Share of the edges, the least attributed, removed without a test.", default=0.8
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "screen", share("screen", self.screen))


@dataclass(frozen=True)
class BisectingACDCSettings(ACDCSettings):
    """Settings of ACDC that removes groups of edges."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine == "plain" or self.precision == "reduced" or self.verify:
            raise SettingError(
                "acdc-bisect always works incrementally, in full precision; "
                "leave engine, precision and verify as they are."
            )
