"""What every ledger promises about who may do a daemon's work on it; see `suite`."""

import pytest

from bridge.lib.errors import LedgerLocked
from tests.ledger.contract.place import LedgerPlace


class OwnershipContract:
    """Daemons, and the commands that do their work while none lives."""

    def test_command_does_no_daemon_work_while_a_daemon_runs(self, place: LedgerPlace) -> None:
        with place.ownership(), pytest.raises(LedgerLocked):
            place.ownership(guest=True).acquire()
        with place.ownership(guest=True) as guest:
            assert not guest.is_wanted()

    def test_only_one_of_two_commands_does_daemon_work(self, place: LedgerPlace) -> None:
        first, second = place.ownership(guest=True), place.ownership(guest=True)
        first.acquire()
        with pytest.raises(LedgerLocked):
            second.acquire()
        first.release()
        second.acquire()
        second.release()
