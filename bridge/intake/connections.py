"""The table of a listener's connections: it decides which one is closed to make room for a new one."""

from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class _Peer(Generic[C]):
    """The connections of one address; a dictionary remembers their order."""

    __slots__ = ("address", "arriving", "count", "limit", "silent")

    def __init__(self, address: str, limit: int) -> None:
        self.address = address
        self.limit = limit
        self.count = 0
        self.silent: dict[C, None] = {}
        self.arriving: dict[C, None] = {}

    def oldest(self) -> C | None:
        """The connection that has been silent longest; without a silent one, that of the oldest request."""
        for waiting in (self.silent, self.arriving):
            for connection in waiting:
                return connection
        return None


class ConnectionTable(Generic[C]):
    """Connections by address, in the order in which they fell silent or began a request.

    An address has a limit of its own, so that one cannot take the room of all. Where the limit is reached,
    the oldest silent connection makes room for a new one; one whose request is being answered never does.
    """

    def __init__(self, limit: int) -> None:
        """`limit` holds for all addresses together."""
        self._limit = limit
        self._peers: dict[str, _Peer[C]] = {}
        self._of: dict[C, _Peer[C]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def open(self, connection: C, address: str, limit: int) -> C | None:
        """Add a new connection. Returns the one to close for it, which may be the new one itself."""
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = _Peer(address, limit)
        crowded = None
        if peer.count >= peer.limit:
            crowded = peer
        elif len(self._of) >= self._limit:
            # The address with the most connections gives one up, so that an address with few keeps its own.
            crowded = max(self._peers.values(), key=lambda one: one.count)
        victim = None
        if crowded is not None:
            victim = crowded.oldest()
            if victim is None:
                if not peer.count:
                    del self._peers[address]
                return connection
            self.close(victim)
            # If the closed connection was this address's only one, its entry has gone with it.
            self._peers[address] = peer
        peer.count += 1
        peer.silent[connection] = None
        self._of[connection] = peer
        return victim

    def close(self, connection: C) -> None:
        """Remove a connection that has ended or is given up."""
        peer = self._of.pop(connection, None)
        if peer is None:
            return
        peer.silent.pop(connection, None)
        peer.arriving.pop(connection, None)
        peer.count -= 1
        if not peer.count:
            del self._peers[peer.address]

    def begin(self, connection: C) -> None:
        """Note that a request begins to arrive."""
        peer = self._of.get(connection)
        if peer is not None and connection in peer.silent:
            del peer.silent[connection]
            peer.arriving[connection] = None

    def answer(self, connection: C) -> None:
        """Note that a request is whole: its connection is not closed until it is answered."""
        peer = self._of.get(connection)
        if peer is not None:
            peer.silent.pop(connection, None)
            peer.arriving.pop(connection, None)

    def rest(self, connection: C) -> None:
        """Note that a request has been answered; the connection is silent until the next one."""
        peer = self._of.get(connection)
        if peer is not None:
            peer.arriving.pop(connection, None)
            peer.silent[connection] = None
