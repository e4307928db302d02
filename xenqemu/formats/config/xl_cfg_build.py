"""What an xl.cfg says of how a guest is built: libxl's `b_info`, field by field (xl_parse.c)."""

from __future__ import annotations

import re
from typing import Any

from xenqemu.formats.config.domain_config import MAX_KB
from xenqemu.formats.config.xl_cfg_cpuid import cpuid
from xenqemu.formats.config.xl_cfg_cpus import (
    affinity,
    avail_vcpus,
    max_vcpus,
    numa_placement,
    vnuma_mib,
    vnuma_nodes,
)
from xenqemu.formats.config.xl_cfg_hvm import ROOMS
from xenqemu.formats.config.xl_cfg_rows import (
    Row,
    bounded,
    choice,
    flag,
    mib,
    number,
    numbered_word,
    present,
    strings,
    struct,
    text,
    unsigned,
    word,
)
from xenqemu.formats.config.xl_cfg_settings import U32, XlCfgSettings, wrapped
from xenqemu.formats.config.xl_cfg_specs import ulong

_TSC_MODES = ("default", "always_emulate", "native", "native_paravirt")
_TIMER_MODES = (
    *("delay_for_missed_ticks", "no_delay_for_missed_ticks", "no_missed_ticks_pending"),
    "one_missed_tick_pending",
)
_ALTP2M_MODES = ("disabled", "mixed", "external", "limited")
_DEVICE_MODELS = {"qemu-xen": "qemu_xen", "qemu-xen-traditional": "qemu_xen_traditional"}
_SVE = ("hw", "disabled", *(str(bits) for bits in range(128, 2049, 128)))
_BOOT_FOLDER = "/usr/lib/xen-{}.{}/boot"
"""Where Debian's xl has the firmware that `firmware` names for PV and PVH guests."""
_IOMEM = re.compile(
    r"\s*(?:0x)?([0-9a-f]{1,16}),\s*(?:0x)?([0-9a-f]{1,16})(?:@\s*(?:0x)?([0-9a-f]{1,16}))?",
    re.IGNORECASE | re.ASCII,
)
_MAX_COLORS = 1 << 16
_HVMLOADER = "hvmloader"


def _memory(cfg: XlCfgSettings, key: str) -> int | None:
    kib: int | None = mib(key)(cfg)
    if kib is not None and kib > MAX_KB:
        raise cfg.bad(key, f"MiB from 0 to {MAX_KB >> 10}", cfg.string(key))
    return kib


def _target(cfg: XlCfgSettings) -> int | None:
    return _memory(cfg, "memory")


def _most(cfg: XlCfgSettings) -> int | None:
    """Read the memory at most: maxmem, or that of the NUMA nodes, or memory."""
    most, nodes = _memory(cfg, "maxmem"), vnuma_mib(cfg)
    if nodes is None:
        return _target(cfg) if most is None else most
    if most not in (None, nodes << 10):
        raise cfg.bad("vnuma", f"maxmem MiB, {(most or 0) >> 10}", nodes)
    return nodes << 10


def _exec_label(cfg: XlCfgSettings) -> str | None:
    return cfg.string("seclabel") if cfg.string("init_seclabel") is not None else None


def _kernel(cfg: XlCfgSettings) -> str | None:
    kernel = cfg.string("kernel")
    if cfg.type != "hvm":
        return _kernel_or_firmware(cfg, kernel)
    if kernel is not None and kernel.rpartition("/")[2] == _HVMLOADER:
        cfg.warn("kernel", "the firmware, named as in old files, is ignored: firmware_override")
        return None
    return kernel


def _kernel_or_firmware(cfg: XlCfgSettings, kernel: str | None) -> str | None:
    firmware = cfg.string("firmware")
    if firmware is not None:
        if kernel is not None:
            raise cfg.bad("firmware", "none beside kernel", firmware)
        if not any(name.startswith(firmware) for name in ("pvgrub32", "pvgrub64")):
            raise cfg.bad("firmware", "pvgrub32 or pvgrub64", firmware)
        return f"{_BOOT_FOLDER.format(*cfg.host.release)}/{firmware}.bin"
    if kernel is None and cfg.string("bootloader") is None:
        raise cfg.wrong("kernel", "a kernel or a bootloader for a pv or pvh guest", "none")
    return kernel


def _cmdline(cfg: XlCfgSettings) -> str | None:
    cmdline, root, extra = cfg.string("cmdline"), cfg.string("root"), cfg.string("extra")
    if cmdline is not None:
        if root is not None or extra is not None:
            cfg.warn("cmdline", "it takes the place of root and extra, which are ignored")
        return cmdline
    words = ([] if root is None else [f"root={root}"]) + ([] if extra is None else [extra])
    return " ".join(words) if words else None


def _bootloader_args(cfg: XlCfgSettings) -> list[str] | None:
    if not cfg.is_set("bootloader_args") or cfg.is_list("bootloader_args"):
        return cfg.texts("bootloader_args") or None
    cfg.warn("bootloader_args", "one string is deprecated: a list of strings")
    words = re.split(r"[ \t\n]+", cfg.string("bootloader_args") or "")
    return [each for each in words if each] or None


def _timer_mode(cfg: XlCfgSettings) -> str | None:
    if cfg.type == "pv" and cfg.is_set("timer_mode") and not cfg.is_list("timer_mode"):
        raise cfg.wrong("timer_mode", "none for a pv guest", "one")
    if (cfg.string("timer_mode") or "").lower() == "unknown":
        return None
    return numbered_word("timer_mode", _TIMER_MODES, default=None)(cfg)  # type: ignore[no-any-return]


def _altp2m(cfg: XlCfgSettings) -> str | None:
    by_number = cfg.number("altp2m", quiet=True)
    if by_number is None:
        return word("altp2m", _ALTP2M_MODES, default="disabled")(cfg)  # type: ignore[no-any-return]
    if not 0 <= by_number < len(_ALTP2M_MODES):
        raise cfg.bad("altp2m", "one of " + ", ".join(_ALTP2M_MODES), by_number)
    return _ALTP2M_MODES[by_number] if by_number else None


def _vmtrace(cfg: XlCfgSettings) -> int | None:
    return wrapped(cfg.number("vmtrace_buf_kb", quiet=True) or 0) or None


def _device_model_version(cfg: XlCfgSettings) -> str | None:
    version: str | None = choice("device_model_version", _DEVICE_MODELS, exact=True)(cfg)
    if version is None and cfg.string("device_model_override") is not None:
        cfg.warn("device_model_override", "given without device_model_version")
    return version


def _tee(cfg: XlCfgSettings) -> str | None:
    return word("tee", ("none", "optee", "ffa"), default="none")(cfg)  # type: ignore[no-any-return]


def _ioports(cfg: XlCfgSettings) -> list[dict[str, int]] | None:
    found = []
    for item in cfg.all_texts("ioports"):
        first = ulong(item, 16)
        last = ulong(first[1][1:], 16) if first and first[1].startswith("-") else first
        if first is None or last is None or max(first[0], last[0]) >= U32:
            raise cfg.bad("ioports", "hexadecimal ports, as 3f8 or 2f8-2ff", item)
        if last is not first and last[1]:
            raise cfg.bad("ioports", "hexadecimal ports, as 3f8 or 2f8-2ff", item)
        if last is first and last[1]:
            cfg.warn("ioports", f"{item[:40]!r}: what follows the port is ignored, as by xl")
        count = last[0] - first[0] + 1 & U32
        found.append(present({"first": first[0] or None, "number": count or None}.items()))
    return found or None


def _irqs(cfg: XlCfgSettings) -> list[int] | None:
    found = []
    for item in cfg.all_texts("irqs"):
        irq = ulong(item, 10)
        if irq is None or irq[1] or irq[0] >= U32:
            raise cfg.bad("irqs", "numbers", item)
        found.append(irq[0])
    return found or None


def _iomem(cfg: XlCfgSettings) -> list[dict[str, int]] | None:
    found = []
    for item in cfg.all_texts("iomem"):
        match = _IOMEM.fullmatch(item)
        if match is None:
            raise cfg.bad("iomem", "hexadecimal START,COUNT[@GFN]", item)
        start, count = int(match[1], 16) or None, int(match[2], 16) or None
        gfn = None if match[3] is None else int(match[3], 16)
        found.append(present({"start": start, "number": count, "gfn": gfn}.items()))
    return found or None


def _llc_colors(cfg: XlCfgSettings) -> list[int] | None:
    found: list[int] = []
    for item in cfg.all_texts("llc_colors"):
        match = re.match(r"\s*([0-9]{1,10})(?:-\s*([0-9]{1,10}))?", item, re.ASCII)
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first
        if match is None or not 0 <= last - first < _MAX_COLORS - len(found):
            raise cfg.bad("llc_colors", "numbers and ranges, as 1-3", item)
        found += range(first, last + 1)
    return found or None


_SCHEDULER: tuple[Row, ...] = tuple(
    (name, number(key, default=-1))
    for name, key in (
        *(("weight", "cpu_weight"), ("cap", "cap"), ("period", "period")),
        *(("extratime", "extratime"), ("slice", "slice"), ("latency", "latency")),
    )
)


def build_info(cfg: XlCfgSettings) -> dict[str, Any]:
    """Return libxl's `b_info`."""
    rows: tuple[Row, ...] = (*_FIRST, (f"type.{cfg.type}", ROOMS[cfg.type]), *_LAST)
    return present((name, read(cfg)) for name, read in rows)


_FIRST: tuple[Row, ...] = (
    ("max_vcpus", max_vcpus),
    ("avail_vcpus", avail_vcpus),
    ("vcpu_hard_affinity", affinity("cpus")),
    ("vcpu_soft_affinity", affinity("cpus_soft")),
    ("numa_placement", numa_placement),
    ("tsc_mode", numbered_word("tsc_mode", _TSC_MODES, default="default")),
    ("max_memkb", _most),
    ("target_memkb", _target),
    ("video_memkb", mib("videoram")),
    ("shadow_memkb", mib("shadow_memory")),
    ("rtc_timeoffset", unsigned("rtc_timeoffset")),
    ("exec_ssid_label", _exec_label),
    ("localtime", flag("localtime")),
    ("disable_migrate", flag("nomigrate")),
    ("cpuid", cpuid),
    ("vnuma_nodes", vnuma_nodes),
    ("max_grant_frames", bounded("max_grant_frames")),
    ("max_maptrack_frames", bounded("max_maptrack_frames")),
    ("max_grant_version", bounded("max_grant_version")),
    ("device_model_version", _device_model_version),
    ("device_model_stubdomain", flag("device_model_stubdomain_override")),
    ("stubdomain_memkb", mib("stubdomain_memory")),
    ("stubdomain_kernel", text("stubdomain_kernel")),
    ("stubdomain_cmdline", text("stubdomain_cmdline")),
    ("stubdomain_ramdisk", text("stubdomain_ramdisk")),
    ("device_model", text("device_model_override")),
    ("device_model_ssid_label", text("device_model_stubdomain_seclabel")),
    ("device_model_user", text("device_model_user")),
    ("extra", strings("device_model_args")),
    ("extra_pv", strings("device_model_args_pv")),
    ("extra_hvm", strings("device_model_args_hvm")),
    ("sched_params", struct(*_SCHEDULER)),
    ("ioports", _ioports),
    ("irqs", _irqs),
    ("iomem", _iomem),
    ("llc_colors", _llc_colors),
    ("claim_mode", lambda _cfg: "True"),
    ("event_channels", unsigned("max_event_channels")),
    ("kernel", _kernel),
    ("cmdline", _cmdline),
    ("ramdisk", text("ramdisk")),
    ("device_tree", text("device_tree")),
    ("acpi", flag("acpi")),
    ("bootloader", text("bootloader")),
    ("bootloader_args", _bootloader_args),
    ("bootloader_restrict", flag("bootloader_restrict")),
    ("bootloader_user", text("bootloader_user")),
    ("timer_mode", _timer_mode),
    ("nested_hvm", flag("nestedhvm")),
    ("apic", lambda cfg: cfg.flag("apic") if cfg.type == "hvm" else None),
    ("dm_restrict", flag("dm_restrict")),
    ("tee", _tee),
)
_LAST: tuple[Row, ...] = (
    (
        "arch_arm",
        struct(
            ("gic_version", word("gic_version", ("default", "v2", "v3"), default="default")),
            ("vuart", word("vuart", ("unknown", "sbsa_uart"), default="unknown")),
            ("sve_vl", word("sve", _SVE, default="disabled")),
            ("nr_spis", unsigned("nr_spis")),
        ),
    ),
    ("arch_x86", struct(("msr_relaxed", flag("msr_relaxed")))),
    ("altp2m", _altp2m),
    ("vmtrace_buf_kb", _vmtrace),
    ("vpmu", flag("vpmu")),
)
