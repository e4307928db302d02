"""The table of deliberate faults is in step with the product and its tests."""

import pytest

from tests.mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_fault_can_be_made_and_has_its_tests(mutation):
    assert mutation.made(ROOT) != (ROOT / mutation.file).read_text()
    assert mutation.likely(ROOT) == mutation.tests
