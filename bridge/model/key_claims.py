"""One key, one source: within a CRM account a call's key belongs to the source whose call came first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.model.plan import Plan, Skip
from bridge.model.skip_reasons import of_another_source


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """What tells whether two calls are one."""

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
    """A call, and one of another source that has its key as a name and came to the account before it."""

    call: CallIdentity
    holder: CallIdentity


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two calls that are not one have one key."""

    claim: Claim

    @property
    def cause(self) -> str:
        """What groups such conflicts."""
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
    """What becomes of a plan beside the claims on its call's key, the oldest first."""
    if isinstance(plan, Skip):
        return plan
    own = [each for each in plan.objects if not each.shared]
    if own and all(each.by_source for each in own):
        # Its keys say whose it is: nothing of another source's call is touched.
        claims = [claim for claim in claims if same_call(claim.call, claim.holder)]
    for claim in claims:
        if same_call(claim.call, claim.holder):
            return Skip(of_another_source(claim.holder.source))
        if claim.call.key == claim.holder.key:
            return Conflict(claim)
    return plan
