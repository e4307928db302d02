"""xenstore's wire protocol (docs/misc/xenstore.txt, io/xs_wire.h), as both its sides need it.

::

    u32 type   u32 req_id   u32 tx_id   u32 length        little-endian, as the host
    length bytes of payload
"""

from __future__ import annotations

import struct
from enum import IntEnum

HEADER = struct.Struct("<IIII")

PAYLOAD_MAX = 4096
"""XENSTORE_PAYLOAD_MAX, in bytes, both ways; xenstored disconnects a client that exceeds it."""


class Op(IntEnum):
    """xsd_sockmsg_type; 20 was RESTRICT and is gone."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
