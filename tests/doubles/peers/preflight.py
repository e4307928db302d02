"""What one xenqemu asks another, and what it answers: values and their bytes."""

import json

from tests.property.strategies import CPUID
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.migration.preflight_messages import PreflightAnswer, PreflightQuestion

CONFIG = DomainConfig(
    {
        "c_info": {"type": "hvm", "name": "guest", "uuid": "9233e52c-49ca-454f-96be-f53e22f3994d"},
        "b_info": {"max_vcpus": 2, "max_memkb": 131072},
    }
)

PAIRS = {
    "the least": (
        PreflightQuestion(CONFIG, "lab:here", 3, xenqemu="0.1.0"),
        b'{"xenqemu": "0.1.0", "host": "lab:here", "config": '
        + json.dumps(CONFIG.tree).encode()
        + b', "image": 3}\n',
    ),
    "all": (
        PreflightQuestion(
            CONFIG,
            "xen:1",
            2,
            {2: 1032, 5: 24},
            CPUID.leaves,
            {"vga": 2, "é": 0},
            "9.9",
        ),
        b'{"xenqemu": "9.9", "host": "xen:1", "config": '
        + json.dumps(CONFIG.tree).encode()
        + b', "image": 2, "context": {"2": 1032, "5": 24}, "cpuid": '
        b'"00000000ffffffff0d000000020000000300000004000000", '
        b'"devices": {"vga": 2, "\\u00e9": 0}}\n',
    ),
    "yes": (PreflightAnswer(xenqemu="0.1.0"), b'{"xenqemu": "0.1.0"}\n'),
    "no": (
        PreflightAnswer(("zstd", "digest"), ("no disk", "é"), "1"),
        b'{"xenqemu": "1", "features": ["zstd", "digest"], "objections": ["no disk", "\\u00e9"]}\n',
    ),
}
