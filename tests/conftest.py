"""Runtime shape checks for the whole package, and one torch thread per test worker."""

import os

from jaxtyping import install_import_hook

# Before anything imports edgewise: every annotation of a function there is checked when it is
# called.
install_import_hook("edgewise", "typechecker.check")

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the hub is marked `network`

import torch  # noqa: E402

torch.set_num_threads(1)
