"""The tree and its transactions, against a plain dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xenqemu.errors import StoreError
from xenqemu.lab.xenstored import paths
from xenqemu.lab.xenstored import tree as tree_module
from xenqemu.lab.xenstored.transaction import REQUESTS_MAX, TransactionTree
from xenqemu.lab.xenstored.tree import Change, Tree

T = TypeVar("T")


def dump(tree: Tree) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    return {path: (node.value, node.permissions) for path, node in tree.walk("/")}


def refused(code: str) -> object:
    return pytest.raises(StoreError, check=lambda error: error.code == code)


def test_write_makes_parents_with_the_permissions_of_the_nearest_one() -> None:
    tree = Tree()
    tree.mkdir("/a")
    tree.set_permissions("/a", ["n3", "r12"])
    assert tree.write("/a/b/c", b"v") == [Change("/a/b/c")]
    assert dump(tree) == {
        "/": (b"", ("n0",)),
        "/a": (b"", ("n3", "r12")),
        "/a/b": (b"", ("n3", "r12")),
        "/a/b/c": (b"v", ("n3", "r12")),
    }
    assert tree.count == 4


def test_writing_keeps_permissions_and_children() -> None:
    tree = Tree()
    tree.write("/a/b", b"v")
    tree.set_permissions("/a", ["b5"])
    tree.write("/a", b"\0\xff")
    assert dump(tree)["/a"] == (b"\0\xff", ("b5",))
    assert list(tree.node("/a").children) == ["b"]


def test_mkdir_of_what_exists_changes_nothing() -> None:
    tree = Tree()
    tree.write("/a", b"v")
    root = tree.root
    assert tree.mkdir("/a") == []
    assert tree.root is root


def test_removing_tells_all_below_exactly() -> None:
    tree = Tree()
    for path in ("/a/b/c", "/a/d", "/e"):
        tree.mkdir(path)
    assert tree.remove("/a") == [
        Change("/a/d", exact=True),
        Change("/a/b/c", exact=True),
        Change("/a/b", exact=True),
        Change("/a"),
    ]
    assert list(dump(tree)) == ["/", "/e"]
    assert tree.count == 2


def test_removing_what_is_missing() -> None:
    tree = Tree()
    assert tree.remove("/a") == []
    with refused("ENOENT"):
        tree.remove("/a/b")
    with refused("EINVAL"):
        tree.remove("/")


@pytest.mark.parametrize(
    "permissions", [["x0"], ["r"], ["r-1"], ["n65536"], ["n0 "], ["n0", ""], ["r123456"]]
)
def test_illegal_permissions(permissions: list[str]) -> None:
    with refused("EINVAL"):
        Tree().set_permissions("/", permissions)


def test_permissions_are_normal_and_few() -> None:
    tree = Tree()
    tree.set_permissions("/", ["n00", "r007", "w1", "b65535", "n2"])
    assert tree.node("/").permissions == ("n0", "r7", "w1", "b65535", "n2")
    with refused("ENOSPC"):
        tree.set_permissions("/", ["n0"] * 6)
    with refused("ENOENT"):
        tree.set_permissions("/a", ["n0"])


def test_the_store_gets_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "NODES_MAX", 4)
    tree = Tree()
    tree.mkdir("/a/b")
    with refused("ENOSPC"):
        tree.write("/a/c/d", b"")
    tree.mkdir("/a/c")
    with refused("ENOSPC"):
        tree.mkdir("/d")
    tree.remove("/a/b")
    tree.mkdir("/d")


def test_generations_change_with_value_permissions_and_children_only() -> None:
    tree = Tree()
    tree.write("/a/b", b"")
    seen = {tree.node("/a").generation}
    for step, new in [
        (lambda: tree.write("/a/b", b"1"), False),
        (lambda: tree.write("/a/c", b""), True),
        (lambda: tree.write("/a", b""), True),
        (lambda: tree.set_permissions("/a", ["n0"]), True),
        (lambda: tree.set_permissions("/a/b", ["n1"]), False),
        (lambda: tree.remove("/a/c"), True),
    ]:
        step()
        generation = tree.node("/a").generation
        assert (generation not in seen) == new
        seen.add(generation)


def test_forgetting_a_domain_removes_what_it_owns() -> None:
    tree = Tree()
    for path, owner in [("/a/x/y", "n1"), ("/a/z", "n2"), ("/b", "n1")]:
        tree.mkdir(path)
        tree.set_permissions(path, [owner])
    tree.set_permissions("/a/x", ["n1"])
    changes = tree.forget(1)
    assert [change.path for change in changes if not change.exact] == ["/a/x", "/b"]
    assert list(dump(tree)) == ["/", "/a", "/a/z"]


def test_depth_at_the_longest_path() -> None:
    tree = Tree()
    path = paths.canonical("/a" * 1536)
    tree.write(path, b"deep")
    tree.write(path, b"deeper")
    assert tree.node(path).value == b"deeper"
    assert len(tree.remove("/a")) == 1536
    assert tree.count == 1


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("/", "/"),
        ("/a-_@Z9/b", "/a-_@Z9/b"),
        ("x/y", "/local/domain/0/x/y"),
        ("@releaseDomain", "/@releaseDomain"),
        ("/" + "a" * 3071, "/" + "a" * 3071),
        ("a" * 2048, "/local/domain/0/" + "a" * 2048),
    ],
)
def test_legal_paths(path: str, whole: str) -> None:
    assert paths.canonical(path) == whole


@pytest.mark.parametrize(
    "path", ["", "//", "/a/", "a//b", "/a b", "/a\n", "/ä", "/" + "a" * 3072, "a" * 2049, "@"[:0]]
)
def test_illegal_paths(path: str) -> None:
    with refused("EINVAL"):
        paths.canonical(path)


# Transactions.


def begun(*edits: str) -> tuple[Tree, TransactionTree]:
    live = Tree()
    for path in ("/a/b", "/c"):
        live.write(path, b"before")
    return live, TransactionTree(live)


@pytest.mark.parametrize(
    ("inside", "meanwhile", "conflict"),
    [
        (lambda t: t.find("/a/b"), lambda t: t.write("/a/b", b"x"), True),
        (lambda t: t.find("/a/b"), lambda t: t.write("/c", b"x"), False),
        (lambda t: t.find("/a"), lambda t: t.write("/a/b", b"x"), False),
        (lambda t: t.find("/a"), lambda t: t.write("/a/n", b"x"), True),
        (lambda t: t.find("/n"), lambda t: t.write("/n", b"x"), True),
        (lambda t: t.find("/n"), lambda t: t.write("/m", b"x"), False),
        (lambda t: t.find("/a/b"), lambda t: t.set_permissions("/a/b", ["n1"]), True),
        (lambda t: t.find("/a/b"), lambda t: t.remove("/a"), True),
        (lambda t: t.find("/a/b"), lambda t: t.remove("/a") + t.write("/a/b", b"before"), True),
        (lambda t: t.edit(Tree.write, "/c", b"y"), lambda t: t.write("/c", b"x"), True),
        (lambda t: t.edit(Tree.write, "/c/n", b"y"), lambda t: t.write("/c/m", b"x"), True),
        (lambda t: t.edit(Tree.write, "/c", b"y"), lambda t: t.write("/a/b", b"x"), False),
        (lambda t: t.edit(Tree.remove, "/a"), lambda t: t.write("/a/b", b"x"), True),
        (lambda t: t.edit(Tree.remove, "/a"), lambda t: t.write("/a/b/n", b"x"), True),
        (lambda t: t.edit(Tree.remove, "/a"), lambda t: t.write("/n", b"x"), True),
        (lambda t: t.edit(Tree.remove, "/a"), lambda t: t.write("/c", b"x"), False),
    ],
)
def test_a_transaction_conflicts_with_changes_of_what_it_touched(
    inside, meanwhile, conflict
) -> None:
    live, transaction = begun()
    inside(transaction)
    meanwhile(live)
    before = dump(live)
    if conflict:
        with refused("EAGAIN"):
            transaction.commit(live)
        assert dump(live) == before
    else:
        transaction.commit(live)


def test_a_transaction_sees_its_own_edits_and_no_others() -> None:
    live, transaction = begun()
    assert transaction.edit(Tree.write, "/a/n", b"mine") == []
    live.write("/a/b", b"theirs")
    assert transaction.node("/a/n").value == b"mine"
    assert transaction.node("/a/b").value == b"before"
    assert live.find("/a/n") is None


def test_a_commit_tells_each_change_once() -> None:
    live, transaction = begun()
    for value in (b"1", b"2"):
        transaction.edit(Tree.write, "/c", value)
    transaction.edit(Tree.write, "/n", b"")
    assert transaction.commit(live) == [Change("/c"), Change("/n")]
    assert live.node("/c").value == b"2"
    assert live.count == len(dump(live)) == 5


def test_a_commit_that_cannot_be_done_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    live, transaction = begun()
    transaction.edit(Tree.write, "/c", b"new")
    transaction.edit(Tree.write, "/c/d", b"new")
    live.mkdir("/a/m")
    monkeypatch.setattr(tree_module, "NODES_MAX", 5)
    before = dump(live)
    with refused("ENOSPC"):
        transaction.commit(live)
    assert dump(live) == before


def test_a_transaction_has_a_bound_of_requests() -> None:
    transaction = TransactionTree(Tree())
    for _ in range(REQUESTS_MAX):
        transaction.count_request()
    with refused("ENOSPC"):
        transaction.count_request()


# The model: a dict of paths, and for a transaction the state at its start and its own.

NAMES = st.sampled_from("abc")
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
VALUES = st.binary(max_size=3)
Model = dict[str, bytes]


def model_write(model: Model, path: str, value: bytes) -> None:
    model_mkdir(model, path)
    model[path] = value


def model_mkdir(model: Model, path: str) -> None:
    for above in paths.upwards(path):
        model.setdefault(above, b"")


def model_remove(model: Model, path: str) -> str | None:
    if paths.parent(path) not in model:
        return "ENOENT"
    for below in [known for known in model if paths.within(known, path)]:
        del model[below]
    return None


def conflicts(transaction: TransactionTree, live: Tree) -> bool:
    """Commit; tell whether that was refused, and for no other reason than a conflict."""
    try:
        transaction.commit(live)
    except StoreError as error:
        if error.code != "EAGAIN":
            raise
        return True
    return False


class TreeMachine(RuleBasedStateMachine):
    """Edits on the live tree and in one transaction at a time, done to dicts as well."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree()
        self.model: Model = {"/": b""}
        self.transaction: TransactionTree | None = None
        self.own: Model = {}
        self.log: list[Callable[[Model], object]] = []
        self.disturbed = False

    def both(self, inside: bool, act: Callable[[Model], T]) -> tuple[Tree, T]:
        """Do `act` to the model; return the tree that the like is to be done to, and its result."""
        if inside and self.transaction is not None:
            self.log.append(act)
            return self.transaction, act(self.own)
        self.disturbed = True
        return self.tree, act(self.model)

    @rule(inside=st.booleans(), path=PATHS, value=VALUES)
    def write(self, inside: bool, path: str, value: bytes) -> None:
        tree, _ = self.both(inside, lambda model: model_write(model, path, value))
        tree.edit(Tree.write, path, value)

    @rule(inside=st.booleans(), path=PATHS)
    def mkdir(self, inside: bool, path: str) -> None:
        tree, _ = self.both(inside, lambda model: model_mkdir(model, path))
        tree.edit(Tree.mkdir, path)

    @rule(inside=st.booleans(), path=PATHS)
    def remove(self, inside: bool, path: str) -> None:
        tree, expected = self.both(inside, lambda model: model_remove(model, path))
        if expected is None:
            tree.edit(Tree.remove, path)
        else:
            with refused(expected):
                tree.edit(Tree.remove, path)

    @rule(path=PATHS)
    def read_inside(self, path: str) -> None:
        if self.transaction is not None:
            node = self.transaction.find(path)
            assert (node and node.value) == self.own.get(path)

    @rule()
    def begin(self) -> None:
        self.transaction, self.own = TransactionTree(self.tree), dict(self.model)
        self.log, self.disturbed = [], False

    @rule()
    def commit(self) -> None:
        if self.transaction is None:
            return
        transaction, self.transaction = self.transaction, None
        if conflicts(transaction, self.tree):
            assert self.disturbed
        else:
            for act in self.log:
                act(self.model)

    @invariant()
    def alike(self) -> None:
        assert {path: node.value for path, node in self.tree.walk("/")} == self.model
        assert self.tree.count == len(self.model)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
