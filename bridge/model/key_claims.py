"""Claims on keys: within a CRM account a call's key belongs to the source whose call came first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.model.plan import Plan, Skip
from bridge.model.skip_reasons import of_another_source


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """What identifies a call, for telling whether two sources mean the same one."""

    source: str
    key: str
    sn: str | None
    started_at: datetime | None
    created_at: datetime | None

    def __str__(self) -> str:
        times = (("started_at", self.started_at), ("created_at", self.created_at))
        told = [f"sn {self.sn or '-'}", *(f"{name} {at:%Y-%m-%dT%H:%M:%SZ}" for name, at in times if at)]
        return f"source {self.source} ({', '.join(told)})"


@dataclass(frozen=True, slots=True)
class Claim:
    """A call, and the call of another source (`holder`) that came to the account under the same key first."""

    call: CallIdentity
    holder: CallIdentity


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two different calls have the same key."""

    claim: Claim

    @property
    def cause(self) -> str:
        """The cause of a delivery that is parked for it: equal for such conflicts of two sources."""
        return f"the call's key belongs to source {self.claim.holder.source}"

    def __str__(self) -> str:
        call, holder = self.claim.call, self.claim.holder
        return (
            f"call {call.key} of {call} has the key of another call of {holder},"
            " and the CRM would take both for one"
        )


def same_call(one: CallIdentity, other: CallIdentity) -> bool:
    """Whether two are one call: `sn` and `started_at` agree, or `created_at` where one lacks that."""
    if one.sn is None or one.sn != other.sn:
        return False
    if one.started_at is not None and other.started_at is not None:
        return one.started_at == other.started_at
    return one.created_at is not None and one.created_at == other.created_at


def claims_applied(claims: Sequence[Claim], plan: Plan | Skip) -> Plan | Skip | Conflict:
    """The plan; or a skip where another source delivers the same call; or a conflict with a different call.

    `claims` are those on the call's key, the oldest first.
    """
    if isinstance(plan, Skip):
        return plan
    own = [each for each in plan.objects if not each.shared]
    if own and all(each.by_source for each in own):
        # Keys that use `call.source` never name another source's object, so only the same call matters.
        claims = [claim for claim in claims if same_call(claim.call, claim.holder)]
    for claim in claims:
        if same_call(claim.call, claim.holder):
            return Skip(of_another_source(claim.holder.source))
        if claim.call.key == claim.holder.key:
            return Conflict(claim)
    return plan
