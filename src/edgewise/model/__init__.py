"""The transformer that runs through `read`: configuration, weights, families, loading."""

from edgewise.model.bundled import BUNDLED, PROGRAMS, list_models
from edgewise.model.config import ModelConfig
from edgewise.model.loading import load_model
from edgewise.model.model import Model
from edgewise.model.processing import process, reset_network

__all__ = [
    "BUNDLED",
    "PROGRAMS",
    "Model",
    "ModelConfig",
    "list_models",
    "load_model",
    "process",
    "reset_network",
]
