"""xenstored without its sockets: requests in, replies and events into the clients' outboxes.

Every connection is domain 0's, so all may read and write everything; permissions are kept,
inherited and checked for form, as a toolstack and its guests would see them.
"""

from __future__ import annotations

from xenqemu.errors import StoreError
from xenqemu.formats.xenstore import PAYLOAD_MAX
from xenqemu.lab.xenstored import client_requests, domain_requests, node_requests, paths
from xenqemu.lab.xenstored.answer import Reply
from xenqemu.lab.xenstored.client import Client
from xenqemu.lab.xenstored.domains import Domains
from xenqemu.lab.xenstored.tree import Tree
from xenqemu.lab.xenstored.xs_wire import Packet


class Daemon:
    """The live tree, the domains and the clients."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.domains = Domains()
        self.clients: list[Client] = []
        for special in (paths.INTRODUCE, paths.RELEASE):
            self.tree.mkdir(paths.canonical(special))

    def handle(self, client: Client, request: Packet) -> None:
        """Do `request`; queue its reply, and then its events, for each client that watches."""
        try:
            answer = self._answer(client, request)
        except StoreError as error:
            client.send(request.refusal(error.code))
            return
        client.send(request.reply(answer.payload))
        if answer.event is not None:
            client.send(answer.event)
        for change in answer.changes:
            for other in self.clients:
                other.notify(change)

    def _answer(self, client: Client, request: Packet) -> Reply:
        answer = self._do(client, request)
        if len(answer.payload) > PAYLOAD_MAX:
            raise StoreError("the answer is too long", "E2BIG")
        return answer

    def _do(self, client: Client, request: Packet) -> Reply:
        if about_node := node_requests.HANDLERS.get(request.op):
            return about_node(self._tree(client, request.tx_id), request.payload)
        if about_client := client_requests.HANDLERS.get(request.op):
            return about_client(client, self.tree, request)
        if about_domain := domain_requests.HANDLERS.get(request.op):
            return about_domain(self.domains, self.tree, request.payload)
        raise StoreError(f"no operation {request.op}", "ENOSYS")

    def _tree(self, client: Client, tx_id: int) -> Tree:
        """Return the tree of a request: the live one or its transaction's."""
        if not tx_id:
            return self.tree
        transaction = client.transaction(tx_id)
        transaction.count_request()
        return transaction
