"""Renaming a domain: in one transaction, only if it is called as expected, and again."""

import pytest

from tests.doubles.xen.xenstored import running
from xenqemu.errors import HostError
from xenqemu.host.xenstore.names import AWAY, rename
from xenqemu.host.xenstore.store import Store

UUID = "9233e52c-49ca-454f-96be-f53e22f3994d"


@pytest.fixture
def store(tmp_path):
    """A xenstore with two guests, 4 (named, with its uuid) and 5 (only named)."""
    with running(tmp_path / "socket"), Store(tmp_path / "socket") as store:
        for path, value in (
            ("/local/domain/0/name", "Domain-0"),
            ("/local/domain/4/name", "guest"),
            ("/local/domain/4/vm", f"/vm/{UUID}"),
            (f"/vm/{UUID}/uuid", UUID),
            (f"/vm/{UUID}/name", "guest"),
            ("/local/domain/5/name", "other"),
            ("/local/domain/6", ""),
        ):
            store.write(path, value)
        yield store


def names(store):
    return store.read("/local/domain/4/name"), store.read(f"/vm/{UUID}/name")


def test_both_names_change_and_nothing_else(store):
    before = store.tree("/")
    rename(store, 4, "guest", f"guest{AWAY}")
    after = store.tree("/")
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {"local/domain/4/name", f"vm/{UUID}/name"}
    assert names(store) == ("guest--migratedaway",) * 2


def test_it_may_be_repeated_and_undone(store):
    for _ in range(2):
        rename(store, 4, "guest", "new")
        assert names(store) == ("new", "new")
    for _ in range(2):
        rename(store, 4, "new", "guest")
        assert names(store) == ("guest", "guest")


def test_a_domain_without_a_uuid_path(store):
    rename(store, 5, "other", "another")
    assert store.read("/local/domain/5/name") == "another"


@pytest.mark.parametrize(
    ("domid", "old", "new", "why"),
    [
        (4, "gust", "new", "cannot rename domain 4 to 'new': it is named 'guest', not 'gust'"),
        (6, "guest", "new", "cannot rename domain 6 to 'new': it has no name, not 'guest'"),
        (7, "guest", "new", "cannot rename domain 7 to 'new': it has no name, not 'guest'"),
        (4, "guest", "other", "domain 5 is named 'other' already"),
        (4, "guest", "Domain-0", "domain 0 is named 'Domain-0' already"),
    ],
)
def test_what_is_refused_changes_nothing(store, domid, old, new, why):
    before = store.tree("/")
    with pytest.raises(HostError, match=why):
        rename(store, domid, old, new)
    assert store.tree("/") == before


def test_a_name_that_is_taken_meanwhile(store, tmp_path):
    """Who else writes a name while we look makes us look again."""
    with Store(tmp_path / "socket") as other:
        real = store.atomically

        def disturbed(change):
            def late(nodes):
                nodes.read("/local/domain/5/name")
                if other.read("/local/domain/5/name") != "new":
                    other.write("/local/domain/5/name", "new")
                return change(nodes)

            return real(late)

        store.atomically = disturbed
        with pytest.raises(HostError, match="domain 5 is named 'new' already"):
            rename(store, 4, "guest", "new")
    assert names(store) == ("guest", "guest")
