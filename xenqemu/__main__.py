"""`python3 -m xenqemu`: the same program as `xenqemu`."""

import sys

from xenqemu.cli.main import main

sys.exit(main())
