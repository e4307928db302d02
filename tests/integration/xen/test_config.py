"""xl.cfg on a Xen host: what its xl makes of every key, and a config that does not fit a guest."""

from __future__ import annotations

import base64
import json

import pytest

from tests.golden.xl_answers import cases
from tests.integration.xen.bed import ROOT, Bed
from tests.integration.xen.hosts import FILE, ON_417, XENQEMU, begin, goes_on, on
from tests.property.strategies import outcome
from xenqemu.errors import FormatError
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.formats.config.xl_cfg_settings import XlHost

pytestmark = [pytest.mark.xen, pytest.mark.long]

ASK = """
import base64, json, subprocess
for name, text in json.load(open("/tmp/cases.json")).items():
    open("/tmp/case.cfg", "wb").write(base64.b64decode(text))
    done = subprocess.run(["xl", "-N", "create", "/tmp/case.cfg"], capture_output=True)
    tree = None if done.returncode else json.loads(done.stdout)
    print(json.dumps([name, tree]))
"""

ELSEWHERE = (
    *("llc_colors", "bootloader_restrict", "bootloader_user", "hvm_pirq", "smbios", "sve", "rdm"),
    *("nr_spis", "virtio", "vif-vlan", "disk-trusted", "disk-grant_usage", "tee-ffa", "name-empty"),
    *("cpuid-4.20", "uuid-nil", "memory-minus", "vif-short-mac", "ms_vm_genid-generate"),
)
"""What is kept for a newer xl, not carried, or there by chance."""

CFG = (ROOT / "scripts/xenbed.d/guests/pvh.cfg").read_text()


@pytest.mark.parametrize("xen_host", on("4.17", "4.20"), indirect=True)
@pytest.mark.timeout(1200)
def test_our_tables_say_what_xl_says_here(bed: Bed, request: pytest.FixtureRequest) -> None:
    release = request.node.callspec.params["xen_host"]
    host = XlHost(int(bed.must("xl info nr_cpus")), (4, int(release.partition(".")[2])))
    asked = {
        n: text for n, text in cases().items() if not n.partition("-")[2].startswith(ELSEWHERE)
    }
    packed = {name: base64.b64encode(text).decode() for name, text in asked.items()}
    bed.must(f"cp {bed.put('cases.json', json.dumps(packed).encode())} /tmp/cases.json")
    printed = bed.must(f"python3 {bed.put('ask.py', ASK.encode())}", timeout=900)
    wrong = []
    for name, tree in map(json.loads, printed.splitlines()):
        made = outcome(lambda text: GuestConfig.from_cfg(text, host), asked[name])
        ours = None if isinstance(made, FormatError) else json.dumps(made.config.tree)
        if ours != (None if tree is None else json.dumps(tree)):
            wrong.append(f"{name}: {ours} instead of {tree}")
    assert wrong == [], "\n".join(wrong)


@ON_417
def test_xl_itself_is_asked(bed: Bed) -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    cfg = bed.put("said.cfg", f'{CFG}uuid = "{uuid}"\nmemory = "512MB"\nfoo = 1\n')
    shown = bed.run(f"{XENQEMU} config show --json {cfg}")
    assert json.loads(shown.out) == json.loads(bed.must(f"xl -N create {cfg}"))
    assert "warning: parameter `memory' is not a valid number" in shown.err
    assert "ignored, as by xl: foo" in shown.err
    bad = bed.put("bad.cfg", CFG + 'on_crash = "explode"\n')
    refused = bed.run(f"{XENQEMU} config show {bad}")
    assert refused.rc == 2
    assert 'Unknown on_crash action "explode" specified' in refused.err


@ON_417
@pytest.mark.timeout(600)
def test_a_config_that_does_not_fit_is_refused_and_the_guest_goes_on(bed: Bed) -> None:
    before = begin(bed, "pvh")
    small = bed.put("small.cfg", CFG + "memory = 8\nvcpus = 2\n")
    done = bed.run(f"{XENQEMU} save pvh {FILE} {small}")
    assert done.rc == 3
    assert (
        "the given config does not fit pvh: it has 2 vcpus, the guest 1; it has 8 MiB" in done.err
    )
    goes_on(bed, "pvh", before)
    bed.must(f"{XENQEMU} save -c pvh {FILE} {bed.put('same.cfg', CFG)}", timeout=180)
