"""What one xenqemu asks another before a guest is touched, and the answer: an object in JSON each.

::

    question  { "xenqemu": "0.1.0",             who asks
                "host": "xen:…",                which host that is, maybe the same one
                "config": { … },                the guest's libxl_domain_config
                "image": 3,                     version of the libxc image that will be sent
                "context": { "2": 1032, … },    longest record of each typecode in HVM_CONTEXT
                "cpuid": "…",                   body of X86_CPUID_POLICY in hexadecimal digits
                "devices": { "vga": 2, … } }    version of the state of each device of QEMU's

    answer    { "xenqemu": "0.1.0",             who answers
                "features": [ "zstd", … ],      what it can do beyond xl's protocol
                "objections": [ "…", … ] }      why it cannot take that guest; none if it can

What does not apply is left out; keys that are not known are ignored, so that either side may be
the newer one.  A receiver that is xl is not asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.libxl_json import MAX_JSON, U31, U32, JsonObject, loaded
from xenqemu.formats.stream.libxc_records import CpuidLeaf, X86CpuidPolicy
from xenqemu.formats.stream.value import Body
from xenqemu.version import VERSION

__all__ = ["MAX_JSON", "PreflightAnswer", "PreflightQuestion"]

QUESTION = "preflight question"
ANSWER = "preflight answer"


@dataclass(frozen=True)
class PreflightQuestion:
    """What a guest is and needs; sizes are in bytes, `context` is by typecode.

    `devices` is by the name of a device's state, and of a guest that is saved already.
    """

    config: DomainConfig
    host: str
    image: int
    context: Mapping[int, int] = field(default_factory=dict)
    cpuid: tuple[CpuidLeaf, ...] = ()
    devices: Mapping[str, int] = field(default_factory=dict)
    xenqemu: str = VERSION

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a question; raise `FormatError` for what is none."""
        section = JsonObject.of(QUESTION, loaded(data, QUESTION))
        leaves = _policy(section, "cpuid")
        return cls(
            xenqemu=section.required("xenqemu"),
            host=section.required("host"),
            config=DomainConfig(section.section("config").fields),
            image=section.number("image", U31) or 0,
            context=_sizes(section.optional("context")),
            cpuid=X86CpuidPolicy.parse(leaves).leaves if leaves.data else (),
            devices=_versions(section.optional("devices")),
        )

    def dump(self) -> bytes:
        """Return the bytes of the question."""
        fields = {
            "xenqemu": self.xenqemu,
            "host": self.host,
            "config": self.config.tree,
            "image": self.image,
            "context": {str(code): size for code, size in self.context.items()},
            "cpuid": X86CpuidPolicy(self.cpuid).pack().hex(),
            "devices": dict(self.devices),
        }
        return _dumped(fields)


@dataclass(frozen=True)
class PreflightAnswer:
    """Whether a guest can be taken: it can if there are no objections."""

    features: tuple[str, ...] = ()
    objections: tuple[str, ...] = ()
    xenqemu: str = VERSION

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an answer; raise `FormatError` for what is none."""
        section = JsonObject.of(ANSWER, loaded(data, ANSWER))
        return cls(
            xenqemu=section.required("xenqemu"),
            features=section.texts("features"),
            objections=section.texts("objections"),
        )

    def dump(self) -> bytes:
        """Return the bytes of the answer."""
        fields = {
            "xenqemu": self.xenqemu,
            "features": list(self.features),
            "objections": list(self.objections),
        }
        return _dumped(fields)


def _dumped(fields: Mapping[str, Any]) -> bytes:
    """Return one line of JSON without what is empty."""
    return f"{json.dumps({key: value for key, value in fields.items() if value})}\n".encode()


def _policy(section: JsonObject, key: str) -> Body:
    text = section.text(key) or ""
    try:
        return Body(f"{QUESTION} {key}", 0, 0, bytes.fromhex(text))
    except ValueError as error:
        raise section.wrong(key, "hexadecimal digits", text) from error


def _sizes(section: JsonObject) -> dict[int, int]:
    """Return the numbers under keys that are numbers."""
    for key in section.fields:
        if not (key.isascii() and key.isdecimal() and len(key) < 6):
            raise section.wrong(key, "a typecode", key)
    return {int(key): section.number(key, U31) or 0 for key in section.fields}


def _versions(section: JsonObject) -> dict[str, int]:
    return {name: section.number(name, U32) or 0 for name in section.fields}
