"""The C library gives what the Python module gives, of any bytes in any pieces."""

import mmap
import subprocess
import sys

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.formats import libxxhash

PIECES = st.lists(st.binary(max_size=700), max_size=6)
STREAMING = ("xxh3_64", "xxh3_128")


@pytest.mark.parametrize("name", STREAMING)
@given(PIECES)
def test_pieces_one_after_the_other(name: str, pieces: list[bytes]) -> None:
    ours, theirs = getattr(libxxhash, name)(), getattr(xxhash, name)()
    for number, piece in enumerate(pieces):
        ours.update((bytes, bytearray, memoryview)[number % 3](piece))
        theirs.update(piece)
        assert ours.digest() == theirs.digest()
    if name == "xxh3_64":
        assert ours.intdigest() == theirs.intdigest()


@given(st.binary(max_size=2000))
def test_at_once(data: bytes) -> None:
    assert libxxhash.xxh3_64_digest(data) == xxhash.xxh3_64_digest(data)
    assert libxxhash.xxh64_intdigest(data) == xxhash.xxh64_intdigest(data)


def test_mapped_memory_is_not_held() -> None:
    with mmap.mmap(-1, 1 << 20) as memory:
        memory[5:9] = b"some"
        made = libxxhash.xxh3_128()
        with memoryview(memory) as view:
            made.update(view[4096:])
            made.update(view[:4096].toreadonly())
        assert made.digest() == xxhash.xxh3_128_digest(memory[4096:] + memory[:4096])


WITHOUT = """
import ctypes, sys
sys.modules["xxhash"] = None
if sys.argv[1:]:
    def missing(name):
        raise OSError(name)
    ctypes.CDLL = missing
from xenqemu.formats import xx_hash
print(xx_hash.xxh3_64_digest(b"some").hex())
"""


def test_without_the_module() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, check=True)
    assert done.stdout.decode().strip() == xxhash.xxh3_64_hexdigest(b"some")


def test_without_either() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, "none"], capture_output=True, check=False)
    assert b"neither the Python module xxhash nor libxxhash.so.0 is installed" in done.stderr
