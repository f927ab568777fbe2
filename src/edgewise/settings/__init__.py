"""What can be set: one frozen class per method, and the only place where defaults live.

Nothing here imports torch, so the command line can show every option without waiting for it. Help
texts are part of the fields; `edgewise methods`, `--help` and the docs are made from them.
"""

from __future__ import annotations

from typing import Any

from edgewise.settings.acdc import ACDCSettings, Engine, HeadOrder, Precision
from edgewise.settings.acdc_test import TestedACDCSettings
from edgewise.settings.attribution import (
    AtPSettings,
    EAPIGSettings,
    EAPSettings,
    ExactSettings,
    InformationFlowSettings,
    MagnitudeSettings,
    RandomSettings,
    RelPSettings,
)
from edgewise.settings.hybrids import (
    BisectingACDCSettings,
    OrderedACDCSettings,
    ScreenedACDCSettings,
)
from edgewise.settings.masks import (
    EdgePruningSettings,
    HISPSettings,
    SPEdgesSettings,
    SPSettings,
    UGSSettings,
)
from edgewise.settings.selection import SelectionSettings

__all__ = [
    "SETTINGS",
    "ACDCSettings",
    "AtPSettings",
    "BisectingACDCSettings",
    "EAPIGSettings",
    "EAPSettings",
    "EdgePruningSettings",
    "Engine",
    "ExactSettings",
    "HISPSettings",
    "HeadOrder",
    "InformationFlowSettings",
    "MagnitudeSettings",
    "OrderedACDCSettings",
    "Precision",
    "RandomSettings",
    "RelPSettings",
    "SPEdgesSettings",
    "SPSettings",
    "ScreenedACDCSettings",
    "SelectionSettings",
    "TestedACDCSettings",
    "UGSSettings",
]

# Method name -> its settings. `edgewise.methods.METHODS` adds what needs torch.
SETTINGS: dict[str, type[Any]] = {
    "acdc": ACDCSettings,
    "eap": EAPSettings,
    "eap-ig": EAPIGSettings,
    "clean-corrupted": EAPSettings,
    "exact": ExactSettings,
    "atp-star": AtPSettings,
    "relp": RelPSettings,
    "information-flow": InformationFlowSettings,
    "magnitude": MagnitudeSettings,
    "random": RandomSettings,
    "acdc-ordered": OrderedACDCSettings,
    "acdc-screened": ScreenedACDCSettings,
    "acdc-bisect": BisectingACDCSettings,
    "acdc-test": TestedACDCSettings,
    "sp": SPSettings,
    "sp-edges": SPEdgesSettings,
    "hisp": HISPSettings,
    "edge-pruning": EdgePruningSettings,
    "ugs": UGSSettings,
}
