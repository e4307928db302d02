"""A host of the fakes that records what its steps do."""

import pytest

from tests.doubles.in_memory.recorded_steps import Acts
from tests.doubles.in_memory.world import World


@pytest.fixture
def acts(host):
    host.acts = Acts()
    return host.acts


@pytest.fixture
def host():
    return World().host
