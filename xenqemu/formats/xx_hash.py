"""XXH3 and XXH64, by the Python module xxhash; where that is missing, by the library it wraps.

Every Debian has that library (`libxxhash.so.0`: apt itself needs it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenqemu.formats.libxxhash import xxh3_64, xxh3_64_digest, xxh3_128, xxh64_intdigest
else:
    try:
        from xxhash import xxh3_64, xxh3_64_digest, xxh3_128, xxh64_intdigest
    except ModuleNotFoundError:
        from xenqemu.formats.libxxhash import xxh3_64, xxh3_64_digest, xxh3_128, xxh64_intdigest

__all__ = ["xxh3_64", "xxh3_64_digest", "xxh3_128", "xxh64_intdigest"]
