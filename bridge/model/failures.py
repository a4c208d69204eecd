"""Causes of failures: the text that groups failures that are alike, and the remedy for each."""

import re

from bridge.lib.errors import DeliveryError, Gone, InDoubt, Transient

_ITEMS = re.compile(r"\((?:item \d+ of \d+|batch of \d+)\)")
# What is opened by “ and never closed runs to the end: looking for the end anew at each “ would be quadratic.
_QUOTED = re.compile(r'"[^"]*"|“[^”]*(?:”|\Z)|‘[^’]*(?:’|\Z)|(?<!\w)\'[^\']*\'(?!\w)')
# Words are found by one class each and then judged in Python: a pattern that looks for `@` or for four digits
# inside a run of the same characters begins anew at each of them, which is quadratic or worse.
_WORD = re.compile(r"\S+")
_NUMBERED = re.compile(r"[\w.+*:-]+")
LONGEST_READ = 16 * 1024
"""What is generalised is cut to so many characters first: an answer may be of any length."""
LONGEST = 200
"""Characters of a cause: enough to tell causes apart, and short enough for a line of a terminal."""
_FORBIDDEN = 403

OF_THIS_CAUSE = "--cause …"
"""Stands in a remedy for the words that name all deliveries of its cause, which only the list knows."""
AGAIN = f"then: callbridge deliveries retry {OF_THIS_CAUSE}"
NO_LONGER_THERE = "no longer in the CRM"
"""How the cause ends of a delivery whose object was deleted in the CRM, or lost when that was emptied."""
BY_A_PERSON = "parked by a person"
"""The cause of a delivery that a person parked."""
UNREADABLE_RECORD = "unreadable record"
"""The cause of a delivery whose call's stored record cannot be read."""
IN_DOUBT = "in doubt: "
"""What the cause of a delivery begins with that is parked because nothing tells what became of a request."""
OF_DOUBT = (
    "Look it up in the CRM. It is there: callbridge deliveries skip ID."
    " It is not: callbridge deliveries retry ID, which sends it again"
)
OF_OURS = "Report the trace in the log (delivery.fault); after the upgrade retry"
OF_A_RIGHT = (
    "The CRM does not allow this to the destination's user: give that user the right to it,"
    f" or correct the mapping, {AGAIN}"
)
OF_A_MAPPING = f"Correct the mapping, try it with `callbridge map test`, restart, {AGAIN}"
UNREADABLE = "The stored record is damaged: restore it from a backup, or skip the delivery"
OF_A_KEY = (
    "Two sources send different calls under one key. Give one of them a CRM account (`account`) of its own,"
    " or write `call.source` into the key of the mapping's own objects; or skip it"
)
_BLAMED = {
    "account": "The CRM is out of reach or ill. Nothing to do here: it is tried again by itself",
    "credentials": "The CRM refuses the credentials: check the destination's secrets and its user's rights;"
    " it is tried again by itself",
    "limit": "The CRM's limits are reached. Nothing to do: it goes slower and on by itself",
    "quota": "The day's quota is used up. It goes on by itself when the CRM counts anew",
}


def generalised(text: str) -> str:
    """A message without what differs between records: quoted values, addresses, numbers of 4 digits."""
    text = _QUOTED.sub("…", _ITEMS.sub("", text[:LONGEST_READ]))
    text = _WORD.sub(_without_address, text)
    text = _NUMBERED.sub(_without_number, text)
    return " ".join(text.split())[:LONGEST]


def _without_address(found: re.Match[str]) -> str:
    word = found[0]
    at = word.find("@", 1)
    dotted = at > 0 and 0 < word.find(".", at + 2) < len(word) - 1
    return "…" if dotted else word


def _without_number(found: re.Match[str]) -> str:
    return "…" if sum(map(str.isdecimal, found[0])) >= 4 else found[0]


def cause_of(error: DeliveryError) -> str:
    """The cause of a failure: equal for failures that are alike."""
    if error.cause == str(error):
        # The connector gave no cause, so the message becomes one.
        return generalised(error.cause)
    return " ".join(_ITEMS.sub("", error.cause[:LONGEST_READ]).replace(" :", ":").split())[:LONGEST]


def doubt_of(error: DeliveryError) -> tuple[str, str]:
    """Cause and remedy of a delivery that is parked in doubt, which only a person's word sends again."""
    remedy = remedy_of(error)
    told = remedy if remedy == OF_DOUBT else f"{remedy}. {OF_DOUBT}"
    return f"{IN_DOUBT}{cause_of(error)}"[:LONGEST], told


def remedy_of(error: DeliveryError) -> str:
    """The remedy of a failure: the connector's own words, or else those for its kind."""
    said: BaseException | None = error
    while said is not None:
        if isinstance(said, DeliveryError) and said.says:
            return said.says
        said = said.__cause__
    if isinstance(error, InDoubt):
        return OF_DOUBT
    if isinstance(error, Gone):
        return "A person deleted it in the CRM: skip the delivery, or say on_deleted in the mapping and retry"
    if error.blame != "record":
        return _BLAMED[error.blame]
    if isinstance(error, Transient):
        return "Nothing to do yet: it is tried again by itself"
    return (
        OF_A_RIGHT if error.status == _FORBIDDEN else f"Correct the record in the CRM or the mapping, {AGAIN}"
    )
