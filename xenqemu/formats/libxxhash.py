"""What is used of the Python module xxhash, by the C library itself (xxhash.h).

Digests are big-endian, as `XXH64_canonicalFromHash` and `XXH128_canonicalFromHash` have them.
Other threads run meanwhile.  A view of what is not writable is copied first.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol, TypeAlias

from xenqemu.errors import HostError

LIBRARY = "libxxhash.so.0"
Bytes: TypeAlias = bytes | bytearray | memoryview

try:
    _library = ctypes.CDLL(LIBRARY)
except OSError as error:
    raise HostError(
        f"neither the Python module xxhash nor {LIBRARY} is installed "
        "(Debian: python3-xxhash, libxxhash0)"
    ) from error


class _Hash128(ctypes.Structure):
    _fields_ = (("low64", ctypes.c_uint64), ("high64", ctypes.c_uint64))


class _Function(Protocol):
    def __call__(self, *arguments: object) -> int: ...


def _function(name: str, result: type | None, *arguments: type) -> _Function:
    function = getattr(_library, name)
    function.restype = result
    function.argtypes = arguments
    return function  # type: ignore[no-any-return]


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_new = _function("XXH3_createState", _POINTER)
_free = _function("XXH3_freeState", ctypes.c_int, _POINTER)
_hash64 = _function("XXH3_64bits", ctypes.c_uint64, _POINTER, _SIZE)
_old64 = _function("XXH64", ctypes.c_uint64, _POINTER, _SIZE, ctypes.c_uint64)


def _pointed(data: Bytes) -> tuple[object, int]:
    """Return what ctypes passes as the place of the bytes, and how many there are."""
    view = memoryview(data).cast("B")
    if view.readonly or not view:
        copy = data if isinstance(data, bytes) else bytes(view)
        return ctypes.c_char_p(copy), len(copy)
    return ctypes.byref(ctypes.c_char.from_buffer(view)), len(view)


class _Streaming:
    """A digest of bytes that come one after the other."""

    _reset: _Function
    _update: _Function

    def __init__(self) -> None:
        self._state = _new()
        if not self._state:
            raise MemoryError
        self._reset(self._state)

    def __del__(self) -> None:
        _free(self._state)

    def update(self, data: Bytes, /) -> None:
        """Take more bytes."""
        place, size = _pointed(data)
        self._update(self._state, place, size)


class xxh3_64(_Streaming):  # noqa: N801  the module's name
    """XXH3 of 64 bits."""

    _reset = _function("XXH3_64bits_reset", ctypes.c_int, _POINTER)
    _update = _function("XXH3_64bits_update", ctypes.c_int, _POINTER, _POINTER, _SIZE)
    _result = _function("XXH3_64bits_digest", ctypes.c_uint64, _POINTER)

    def intdigest(self) -> int:
        """Return the digest of all bytes so far."""
        return self._result(self._state)

    def digest(self) -> bytes:
        """Return it as 8 bytes."""
        return self.intdigest().to_bytes(8, "big")


class xxh3_128(_Streaming):  # noqa: N801  the module's name
    """XXH3 of 128 bits."""

    _reset = _function("XXH3_128bits_reset", ctypes.c_int, _POINTER)
    _update = _function("XXH3_128bits_update", ctypes.c_int, _POINTER, _POINTER, _SIZE)
    _result = _function("XXH3_128bits_digest", _Hash128, _POINTER)

    def digest(self) -> bytes:
        """Return the digest of all bytes so far, as 16 bytes."""
        found: Any = self._result(self._state)
        return bytes(found.high64.to_bytes(8, "big") + found.low64.to_bytes(8, "big"))


def xxh3_64_digest(data: Bytes) -> bytes:
    """Return the XXH3 of 64 bits of `data`."""
    return _hash64(*_pointed(data)).to_bytes(8, "big")


def xxh64_intdigest(data: Bytes) -> int:
    """Return the XXH64 of `data`."""
    return _old64(*_pointed(data), 0)
