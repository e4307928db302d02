"""What one xenqemu asks another: values and bytes, both ways."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.peers.preflight import CONFIG, PAIRS
from tests.property.strategies import cpuid_policy, outcome
from xenqemu.errors import BadRecord, FormatError, TooBig
from xenqemu.formats.config.libxl_json import MAX_JSON
from xenqemu.formats.migration.preflight_messages import PreflightAnswer, PreflightQuestion

VALUES = [value for value, _ in PAIRS.values()]


@pytest.mark.parametrize(("value", "data"), PAIRS.values(), ids=PAIRS.keys())
def test_a_value_and_its_bytes(value, data):
    assert value.dump() == data
    assert type(value).parse(data) == value


@pytest.mark.parametrize(("value", "data"), PAIRS.values(), ids=PAIRS.keys())
def test_cut_at_every_offset(value, data):
    for cut in range(len(data) - 1):
        assert isinstance(outcome(type(value).parse, data[:cut]), BadRecord), cut
    assert type(value).parse(data[:-1]) == value  # only the line's end is missing


@pytest.mark.parametrize("value", VALUES, ids=PAIRS.keys())
def test_keys_of_a_newer_one_are_passed_over(value):
    fields = json.loads(value.dump()) | {"later": {"more": [1]}}
    assert type(value).parse(json.dumps(fields).encode()) == value


BAD = [
    (PreflightQuestion, {"host": 7}, "preflight question host.* expected a string"),
    (PreflightQuestion, {"host": ""}, "preflight question host.* a string that is not empty"),
    (PreflightQuestion, {"config": {"c_info": {}}}, "domain config"),
    (
        PreflightQuestion,
        {"config": []},
        "preflight question config.* expected an object, got an array",
    ),
    (PreflightQuestion, {"image": -1}, "preflight question image.* expected an integer"),
    (
        PreflightQuestion,
        {"context": {"x": 1}},
        "preflight question context x.* expected a typecode",
    ),
    (PreflightQuestion, {"context": {"1234567": 1}}, "expected a typecode"),
    (PreflightQuestion, {"context": {"²": 1}}, "expected a typecode"),
    (
        PreflightQuestion,
        {"context": {"2": "1"}},
        "preflight question context 2.* expected an integer",
    ),
    (
        PreflightQuestion,
        {"cpuid": "0g"},
        "preflight question cpuid.* expected hexadecimal digits, got '0g'",
    ),
    (PreflightQuestion, {"cpuid": "00" * 23}, "preflight question cpuid.* entries of 24 bytes"),
    (PreflightQuestion, {"xenqemu": None}, "preflight question xenqemu"),
    (PreflightAnswer, {"xenqemu": None}, "preflight answer xenqemu"),
    (PreflightAnswer, {"features": "zstd"}, "preflight answer features.* expected an array"),
    (PreflightAnswer, {"objections": [1]}, "preflight answer objections.* an array of strings"),
]


@pytest.mark.parametrize(("kind", "change", "why"), BAD)
def test_what_makes_no_sense_is_refused_by_its_place(kind, change, why):
    good = PAIRS["all" if kind is PreflightQuestion else "no"][1]
    with pytest.raises(BadRecord, match=why):
        kind.parse(json.dumps(json.loads(good) | change).encode())


@pytest.mark.parametrize("kind", [PreflightQuestion, PreflightAnswer])
def test_what_is_no_object_is_refused(kind):
    name = "preflight " + kind.__name__.removeprefix("Preflight").lower()
    for data in (b"", b"[]", b"null", b"Welcome to Debian\n{}", b"\xff", b'{"a": 1, "a": 2}'):
        with pytest.raises(BadRecord, match=re.escape(name)):
            kind.parse(data)
    for data in (b" " * (MAX_JSON + 1), b"[" * 100_000):
        with pytest.raises(TooBig, match=re.escape(name)):
            kind.parse(data)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(
    policy=cpuid_policy,
    context=st.dictionaries(st.integers(0, 65535), st.integers(1, 2**31 - 1), max_size=20),
    devices=st.dictionaries(TEXT, st.integers(0, 2**32 - 1), max_size=20),
    host=TEXT,
)
def test_any_question_comes_back(policy, context, devices, host):
    value = PreflightQuestion(CONFIG, host, 3, context, policy.leaves, devices, "8.0")
    assert PreflightQuestion.parse(value.dump()) == value


texts = st.lists(st.text(st.characters(codec="utf-8")), max_size=5).map(tuple)


@given(features=texts, objections=texts)
def test_any_answer_comes_back(features, objections):
    assert PreflightAnswer.parse(PreflightAnswer(features, objections).dump()) == PreflightAnswer(
        features, objections
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(list(json.loads(PAIRS["all"][1]))), json_values))
def test_any_fields_are_a_question_or_a_format_error(fields):
    given_ = json.loads(PAIRS["all"][1]) | fields
    found = outcome(PreflightQuestion.parse, json.dumps(given_).encode())
    assert isinstance(found, PreflightQuestion | FormatError)


@given(st.binary(max_size=100))
def test_any_bytes_are_an_answer_or_a_format_error(data):
    assert isinstance(outcome(PreflightAnswer.parse, data), PreflightAnswer | FormatError)
