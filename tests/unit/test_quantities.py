"""Times and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.quantities import bytes_of, in_bytes, in_time, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("90", 90), ("1.5", 1.5), ("300ms", 0.3), ("2s", 2), ("5m", 300),
        ("1h30m", 5400), ("1d", 86400), ("1m0.5s", 60.5), ("1s500ms", 1.5),
        *[(text, None) for text in ("", "s", "5 m", "-1", "m5", "30m1h", "1e3", "nan", "٣", "5M")],
    ],
)  # fmt: skip
def test_times(text, seconds):
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("4096B", 4096), ("1k", 1 << 10), ("100M", 100 << 20),
        ("100MiB", 100 << 20), ("100mib", 100 << 20), ("100MB", 100_000_000), ("2G", 2 << 30),
        ("1TiB", 1 << 40),
        *[(text, None) for text in ("", "M", "1iB", "1 M", "-1", "1.5M", "1P", "1MiBs", "٣")],
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.00 KiB"),
        (20 << 20, "20.0 MiB"), (128 << 20, "128 MiB"), (1280 << 20, "1.25 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)  # fmt: skip
def test_bytes_for_people(count, text):
    assert in_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0123, "12 ms"), (4.21, "4.2 s"), (99.9, "99.9 s"), (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min"), (90000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_times_for_people(seconds, text):
    assert in_time(seconds) == text


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_none(text):
    for read in (seconds_of, bytes_of):
        found = read(text)
        assert found is None or found >= 0
