"""Shared by all tests: the repository's root on the path, so that test helpers can be imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
