"""A host of the fakes that records what its steps do."""

import pytest

from tests.doubles.fake_host import World
from tests.doubles.recorded_steps import Acts


@pytest.fixture
def acts(host):
    host.acts = Acts()
    return host.acts


@pytest.fixture
def host():
    return World().host
