"""What checks find, gathered: nothing is lost, and one error has all that refuses."""

import pytest

from xenqemu.errors import Cancelled, Forbidden, HostError, Refused, Unsupported, in_words
from xenqemu.host.findings import Finding, Severity, findings, refusals, require


def raising(error):
    def check():
        raise error

    return check


def yielding(*found):
    def check():
        for each in found:
            if isinstance(each, HostError) and str(each) == "raised":
                raise each
            yield each

    return check


AGE = Finding.warning("age", "the disk was changed", "look at it")
FORMAT = Unsupported("image", 0, "version 3", "4")


def test_every_check_is_asked_and_all_is_found_in_its_order():
    checks = [
        ("nothing", lambda: None),
        ("raises", raising(Forbidden("no hook"))),
        ("many", yielding(HostError("one"), AGE, HostError("two"), HostError("raised"))),
        ("all", raising(Refused("no", [HostError("three"), HostError("four")]))),
        ("empty", lambda: ()),
    ]
    found = list(findings(checks))
    assert [(each.severity, each.what, each.text) for each in found] == [
        (Severity.REFUSAL, "raises", "no hook"),
        (Severity.REFUSAL, "many", "one"),
        (Severity.WARNING, "age", "the disk was changed"),
        (Severity.REFUSAL, "many", "two"),
        (Severity.REFUSAL, "many", "raised"),
        (Severity.REFUSAL, "all", "three"),
        (Severity.REFUSAL, "all", "four"),
    ]
    assert len(refusals(found)) == 6


@pytest.mark.parametrize("error", [Cancelled("by cancel"), KeyboardInterrupt(), OSError("gone")])
def test_what_ends_an_operation_is_no_finding(error):
    with pytest.raises(type(error)) as caught:
        list(findings([("a", raising(error))]))
    assert caught.value is error


def test_a_finding_in_words():
    error = HostError("it has a vTPM")
    error.add_note("detach it")
    assert str(Finding.refusal("vtpm", error)) == "it has a vTPM; detach it"
    assert str(Finding.refusal("name", HostError("taken"))) == "taken"
    assert str(AGE) == "the disk was changed; look at it"


def test_nothing_refuses():
    assert require([], "no") == []
    assert require(iter([AGE]), "no") == [AGE]


def test_one_refusal_is_raised_as_it_is():
    with pytest.raises(Unsupported) as caught:
        require([AGE, Finding.refusal("xen", FORMAT)], "no")
    assert caught.value is FORMAT


def test_several_refusals_are_one_error():
    noted = HostError("it has a vTPM")
    noted.add_note("detach it")
    every = [Finding.refusal("a", FORMAT), AGE, Finding.refusal("b", noted)]
    with pytest.raises(Refused) as caught:
        require(every, "web cannot be restored here")
    error = caught.value
    assert str(error) == "web cannot be restored here, for 2 reasons"
    assert error.reasons == (FORMAT, noted)
    assert error.__notes__ == [f"1. {FORMAT}", "2. it has a vTPM; detach it"]
    assert error.exit_code == Unsupported.exit_code
    assert Refused.exit_code == HostError.exit_code
    assert in_words(error) == f"{error}: 1. {FORMAT}; 2. it has a vTPM; detach it"
