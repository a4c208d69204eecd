"""What `check --online` asks a CRM: is the token good, is all there that is mapped, are the clocks right?

Only questions: the connector's probes and its descriptions of objects. Nothing is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.check.field_shapes import FieldShape
from bridge.crm.client import Crm, JudgedAnswer
from bridge.crm.connector import Describe, ObjectType, Probe
from bridge.crm.connector.answer import Answer, dig
from bridge.crm.connector.compiling import Condition, Values
from bridge.crm.connector.retry_after import http_date
from bridge.ledger import open_ledger
from bridge.lib.errors import DeliveryError, LedgerError, Permanent, Problem, did_you_mean
from bridge.lib.expression import ExpressionError, as_text
from bridge.lib.lengths import UNIT_NAMES
from bridge.lib.toml_file import KeyPath
from bridge.mapping import CompiledMapping
from bridge.mapping.schema import FieldSection
from bridge.model.plan import Plan

FURTHEST_CLOCK = 60.0
"""More seconds than this between two clocks spoil signatures and tokens."""
_SECRETS = "check the destination's secrets and settings"
# What people and robots say has no length of its own.
_LONG = ("call.dialogue", "call.last_reply", "call.remark", "call.summary")


@dataclass(frozen=True, slots=True)
class Subject:
    """One destination to ask about."""

    name: str
    mapping: CompiledMapping
    crm: Crm
    plans: Sequence[tuple[str, Plan]]
    """What the mapping's own cases become, each with its name: values to try."""
    problem: Callable[[KeyPath, str, str], Problem]
    """A problem with a key of the destination, at its place in the configuration."""


@dataclass(slots=True)
class OnlineFindings:
    """What came of asking one destination."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    unreachable: list[Problem] = field(default_factory=list)
    """Why it could not be asked, or not all of it."""


class LedgerTokens:
    """The tokens that a ledger keeps; opened for each look, because most CRMs need none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """What was saved for an account; nothing where there is no ledger that may be read."""
        try:
            with closing(open_ledger(self._path, read_only=True)) as ledger:
                return ledger.load_token(account)
        except LedgerError:
            return None

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Keep it for the daemon, where there is a ledger."""
        if self._path.exists():
            with closing(open_ledger(self._path)) as ledger:
                ledger.save_token(account, saved)


def probe(subject: Subject, clock: Callable[[], datetime]) -> OnlineFindings:
    """Ask one CRM everything that can be asked without writing."""
    asking = _Asking(subject, clock)
    try:
        asking.everything()
    except DeliveryError as error:
        remedy = error.says or "is base_url right, is the CRM up, and may this machine reach it?"
        remedy = "" if remedy in str(error) else remedy
        asking.found.unreachable.append(asking.destination(("base_url",), str(error), remedy))
    except _Refused:
        pass
    return asking.found


class _Refused(Exception):
    """The CRM does not know us, so that there is no more to ask."""


class _Asking:
    """Asks one CRM, and gathers what is wrong."""

    def __init__(self, subject: Subject, clock: Callable[[], datetime]) -> None:
        self.found = OnlineFindings()
        self._subject = subject
        self._clock = clock
        self._clock_told = False
        self._connector = subject.crm.connector
        self._described: dict[str, Mapping[str, Any] | None] = {}
        self._failed: set[str | None] = set()
        """The names of probes that failed."""
        self._answers: dict[str, JudgedAnswer] = {}

    def everything(self) -> None:
        """Probes first, then what every mapped object has."""
        objects = self._subject.mapping.file.objects
        mapped = {section.type or name for name, section in objects.items()}
        for each in self._connector.probes:
            if each.section.object in (None, *mapped) and each.section.after not in self._failed:
                self._probe(each)
            elif each.section.after in self._failed:
                self._failed.add(each.section.name)
        for name, section in objects.items():
            kind = self._connector.objects[section.type or name]
            if kind.describe is None:
                message = f'the connector {self._connector.name} cannot ask which fields "{kind.name}" has'
                self.found.warnings.append(self.mapped(("objects", name), message, "they are not checked"))
                continue
            fields = self._fields_of(kind, kind.describe, name)
            if fields is not None:
                for about in section.fields:
                    self._field(kind.describe, name, about, fields)
        if not self._connector.probes and not any(
            self._connector.objects[section.type or name].describe for name, section in objects.items()
        ):
            got = self._got_token()
            message = f"the connector {self._connector.name} tells no question that is harmless"
            remedy = f"whether the {got} is not known: give the connector a [[probe]]"
            self.found.warnings.append(self.destination((), message, remedy))

    def _got_token(self) -> str:
        """Where there is nothing else to ask, at least a token can be got; what stays unknown of it."""
        if not self._connector.auth.tokens:
            return "token works"
        try:
            self._subject.crm.log_in("login")
        except DeliveryError as error:
            if not _is_theirs(error):
                raise
            self.found.problems.append(self.destination(("secrets",), str(error), _SECRETS))
            raise _Refused from error
        return "token that was got opens anything"

    # -- places ----------------------------------------------------------------------
    def destination(self, path: KeyPath, message: str, remedy: str) -> Problem:
        """A problem with the destination itself."""
        return self._subject.problem(path, message, remedy)

    def mapped(self, path: KeyPath, message: str, remedy: str) -> Problem:
        """A problem with what the mapping says, at its line."""
        return self._subject.mapping.problem(path, f"destination {self._subject.name}: {message}", remedy)

    # -- questions -------------------------------------------------------------------
    def _probe(self, probe: Probe) -> None:
        section = probe.section
        judged = self._answer_of(probe)
        holds = probe.expect is not None and probe.expect.holds(
            {**self._subject.crm.common(), **judged.answer.names}
        )
        if not holds:
            before = len(self.found.problems)
            self._judge(probe, judged)
            if len(self.found.problems) > before:
                self._failed.add(section.name)
                if judged.meaning.result == "refresh":
                    raise _Refused
                return
        if probe.writes is not None and not self._may_write(probe, judged.answer):
            self._failed.add(section.name)

    def _answer_of(self, probe: Probe) -> JudgedAnswer:
        """Several probes may look at one answer: it is asked for once."""
        asked = probe.section.model_dump_json(include={"method", "path", "query", "headers", "json_", "form"})
        if asked not in self._answers:
            self._answers[asked] = self._ask(probe, f'probe "{probe.section.name}"')
        return self._answers[asked]

    def _judge(self, probe: Probe, judged: JudgedAnswer) -> None:
        section = probe.section
        try:
            self._subject.crm.judge(judged.meaning, probe.request, judged.description)
        except DeliveryError as error:
            if not _is_theirs(error):
                raise
            path: KeyPath = ("secrets",) if judged.meaning.result == "refresh" else ()
            self.found.problems.append(self.destination(path, str(error), section.remedy))
        else:
            if probe.expect is not None:
                message = f"{judged.description}, and that is not what was expected: {section.expect}"
                self.found.problems.append(self.destination((), message, section.remedy))

    def _may_write(self, probe: Probe, answer: Answer) -> bool:
        """Whether the destination's user may write all that the mapping writes of an object."""
        assert probe.writes is not None  # noqa: S101 -- the caller has looked
        all_may = True
        for name, section in self._subject.mapping.file.objects.items():
            if (section.type or name) != probe.section.object:
                continue
            for about in section.fields:
                names = {**self._subject.crm.common(), **answer.names, "field": about}
                if not _decided(probe.writes, names):
                    all_may = False
                    message = f"object {name}, field {about}: the destination's user may not write it"
                    path: KeyPath = ("objects", name, "fields", about)
                    self.found.problems.append(self.mapped(path, message, probe.section.remedy))
        return all_may

    def _ask(self, asked: Probe | Describe, what: str) -> JudgedAnswer:
        before = self._clock()
        try:
            judged = self._subject.crm.answer(asked.request, {}, what)
        except DeliveryError as error:
            if not _is_theirs(error):
                raise
            # Without a token, or with a request that cannot be written, nothing else will do better.
            self.found.problems.append(self.destination(("secrets",), str(error), _SECRETS))
            raise _Refused from error
        self._compare_clocks(judged.answer, before)
        return judged

    def _compare_clocks(self, answer: Answer, before: datetime) -> None:
        theirs = http_date(answer.headers.get("date", ""))
        ahead = 0.0 if theirs is None else (before - theirs).total_seconds()
        if self._clock_told or abs(ahead) <= FURTHEST_CLOCK:
            return
        self._clock_told = True
        way = "ahead of" if ahead > 0 else "behind"
        message = f"this machine's clock is {abs(ahead):.0f} s {way} the CRM's"
        remedy = "let NTP set it: timedatectl set-ntp true"
        self.found.problems.append(self.destination((), message, remedy))

    def _fields_of(self, kind: ObjectType, describe: Describe, name: str) -> Mapping[str, Any] | None:
        """The fields that the CRM has for a type, by name; asked once."""
        if kind.name in self._described:
            return self._described[kind.name]
        self._described[kind.name] = None
        what = f'describe "{kind.name}"'
        judged = self._ask(describe, what)
        try:
            self._subject.crm.judge(judged.meaning, describe.request, judged.description)
        except DeliveryError as error:
            if not _is_theirs(error):
                raise
            if judged.meaning.result == "refresh":
                self.found.problems.append(self.destination(("secrets",), str(error), _SECRETS))
                raise _Refused from error
            remedy = "create the object in the CRM, or give the destination's user the right to see it"
            message = f"object {name}: the CRM does not describe it: {error}"
            self.found.problems.append(self.mapped(("objects", name), message, remedy))
            return None
        fields = _by_name(describe, describe.fields.of_answer(judged.answer))
        if fields is None:
            message = f"{judged.description}, with no list of fields at {describe.section.fields!r}"
            self.found.problems.append(self.destination((), message, "check the connector's describe"))
        self._described[kind.name] = fields
        return fields

    # -- fields ----------------------------------------------------------------------
    def _field(self, describe: Describe, name: str, about: str, fields: Mapping[str, Any]) -> None:
        path: KeyPath = ("objects", name, "fields", about)
        what = f"object {name}, field {about}"
        definition = fields.get(about)
        if definition is None:
            if not describe.section.others:
                remedy = f"{did_you_mean(about, fields)} Else create it in the CRM".strip()
                self.found.problems.append(self.mapped(path, f"{what}: the CRM has no such field", remedy))
            return
        if describe.read_only is not None and describe.read_only.holds({"field": definition}):
            remedy = "leave it out, or choose a field that can be written"
            self.found.problems.append(self.mapped(path, f"{what}: the CRM lets nobody write it", remedy))
            return
        shape = FieldShape.of(describe, definition)
        section = self._subject.mapping.file.objects[name].fields[about]
        told = set[tuple[KeyPath, str]]()
        for where, origin, value in self._values(name, about, section):
            wrong = shape.refuses(value, self._connector.file.length_unit)
            if wrong is not None and (where, wrong[0]) not in told:
                told.add((where, wrong[0]))
                self.found.problems.append(self.mapped(where, f"{what}: {origin} {wrong[0]}", wrong[1]))
        self._length(path, what, section, shape)

    def _length(self, path: KeyPath, what: str, section: FieldSection, shape: "FieldShape") -> None:
        if shape.length is None:
            return
        limits = [one for one in (section.limit, section.limit_bytes) if one is not None]
        unit = UNIT_NAMES[self._connector.file.length_unit]
        if limits and min(limits) > shape.length:
            message = f"{what}: the CRM takes {shape.length} {unit}, and the limit is {min(limits)}"
            where: KeyPath = (*path, "limit" if section.limit is not None else "limit_bytes")
            self.found.problems.append(self.mapped(where, message, f"write limit = {shape.length}"))
        elif not limits and _has_no_end(section.value):
            message = f"{what}: the CRM takes {shape.length} {unit}, and nothing limits the value"
            self.found.warnings.append(self.mapped(path, message, f"add limit = {shape.length}"))

    def _values(self, name: str, about: str, section: FieldSection) -> Iterator[tuple[KeyPath, str, Any]]:
        """Values that a field is known to get: constants, those of its map, those of the mapping's cases."""
        path: KeyPath = ("objects", name, "fields", about)
        constants = [("value", section.value), ("default", section.default)]
        for key, constant in constants if section.map is None else constants[1:]:
            if constant is not None and "{{" not in as_text(constant):
                yield (*path, key), "the constant", constant
        maps = self._subject.mapping.file.maps
        table = maps[section.map] if isinstance(section.map, str) else section.map
        where = ("maps", section.map) if isinstance(section.map, str) else (*path, "map")
        for code, content in (table or {}).items():
            yield (*where, code), f"what {code!r} becomes,", content
        if section.map is not None or "{{" not in as_text(section.value):
            return
        for case, plan in self._subject.plans:
            for planned in plan.objects:
                if planned.name == name and about in planned.fields:
                    yield path, f'in the case "{case}" the value', planned.fields[about].value


def _decided(condition: Condition, names: Values) -> bool:
    """Whether a condition holds, or cannot be told: then nothing is known against it."""
    try:
        return condition.decides(names)
    except ExpressionError:
        return True


def _is_theirs(error: DeliveryError) -> bool:
    """Whether the CRM said no to us, which asking again does not mend."""
    return isinstance(error, Permanent) or error.blame == "credentials"


def _has_no_end(value: Any) -> bool:
    return isinstance(value, str) and any(name in value for name in _LONG) and "shorten" not in value


def _by_name(describe: Describe, found: Any) -> Mapping[str, Any] | None:
    if isinstance(found, Mapping):
        return {str(name): content for name, content in found.items()}
    if not isinstance(found, list):
        return None
    return {as_text(dig(each, describe.section.name)): each for each in found}
