"""Runtime shape checks for the whole package, and one torch thread per test worker."""

import os
from importlib.util import find_spec

from jaxtyping import install_import_hook

# Before anything imports edgewise: every annotation of a function there is checked when it is
# called.
install_import_hook("edgewise", "typechecker.check")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the hub is marked `network`

# Doctests are looked for in every file, and this one needs the real package (marker `lens`).
collect_ignore = [] if find_spec("transformer_lens") else ["lens.py"]

import torch  # noqa: E402

torch.set_num_threads(1)
