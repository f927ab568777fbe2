"""What several tests of evaluation need."""

import pytest


@pytest.fixture
def unchecked():
    """Without the tests' own checks of annotations: what a user's call meets."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
