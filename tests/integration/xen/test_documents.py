"""The lines of the how-tos that take xl, run in dom0 as they stand."""

import pytest

from tests.documents import ROOT, XEN, blocks, printed_as
from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import ON_417, begin

pytestmark = [pytest.mark.xen, pytest.mark.long, ON_417, pytest.mark.timeout(600)]

PREPARE = """
mkdir -p /tmp/bin /tmp/page /usr/libexec/xenqemu
printf '#!/bin/sh\\nexec python3 -P -m xenqemu "$@"\\n' >/tmp/bin/xenqemu
chmod +x /tmp/bin/xenqemu
ln -sfn /src/hotplug/libxl-save-helper /usr/libexec/xenqemu/libxl-save-helper
xl rename pvh web
"""


def test_the_lines_for_xl_run_as_they_stand(bed: Bed) -> None:
    begin(bed, "pvh")
    bed.must(PREPARE)
    page = ROOT / "docs" / "howto" / "replace-xl-save.md"
    steps = [step for block in blocks(page) if block.kind == XEN for step in block.steps]
    assert len(steps) > 4
    for line, typed, shown in steps:
        done = bed.run(f"cd /tmp/page && PATH=/tmp/bin:$PATH; {typed}", timeout=120)
        assert done.rc == 0, f"{page.name}:{line}: {typed}\n{done.out}{done.err}"
        if shown:
            assert printed_as(shown).fullmatch(done.out), f"{page.name}:{line}: {done.out}"
