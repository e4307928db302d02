"""What only root may do, done for a test; scripts/setup.sh installs packages the same way."""

import os
import subprocess
from pathlib import Path

ROOT = () if os.geteuid() == 0 else ("sudo", "-n")


def as_root(*command: str | Path) -> None:
    """Run a command to its end, which has to be good."""
    subprocess.run([*ROOT, *command], check=True)
