"""Asks one CRM for `check --online`: does the token work, are all mapped fields there, are the clocks right?

Only the connector's probes and descriptions of objects are requested; nothing is written. Begin at `probe()`.
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
"""Seconds: with more between the two clocks, signatures and tokens fail."""
_SECRETS = "check the destination's secrets and settings"
# Values of any length: what people and robots say, and what people write.
_LONG = ("call.dialogue", "call.last_reply", "call.remark", "call.summary")


@dataclass(frozen=True, slots=True)
class Subject:
    """One destination, with all that is needed to ask its CRM."""

    name: str
    mapping: CompiledMapping
    crm: Crm
    plans: Sequence[tuple[str, Plan]]
    """The plans of the mapping's own cases, each with its name: values to compare with the CRM's fields."""
    problem: Callable[[KeyPath, str, str], Problem]
    """Makes a problem with a key of the destination, at its line in the configuration."""


@dataclass(slots=True)
class OnlineFindings:
    """What asking one destination or source has found."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    unreachable: list[Problem] = field(default_factory=list)
    """Why it could not be asked, or not everything."""


class LedgerTokens:
    """The tokens in a ledger file, which is opened each time, because most CRMs need no token."""

    def __init__(self, path: Path) -> None:
        """Keep tokens in the ledger at `path`, if there is one."""
        self._path = path

    def load_token(self, account: str) -> Mapping[str, Any] | None:
        """The token that was saved for an account; None also where no ledger can be read."""
        try:
            with closing(open_ledger(self._path, read_only=True)) as ledger:
                return ledger.load_token(account)
        except LedgerError:
            return None

    def save_token(self, account: str, saved: Mapping[str, Any]) -> None:
        """Save a token for the daemon, where there is a ledger."""
        if self._path.exists():
            with closing(open_ledger(self._path)) as ledger:
                ledger.save_token(account, saved)


def probe(subject: Subject, clock: Callable[[], datetime]) -> OnlineFindings:
    """Ask one CRM everything that can be asked without writing, and return what is wrong."""
    check = _CrmCheck(subject, clock)
    try:
        check.run()
    except DeliveryError as error:
        remedy = error.says or "is base_url right, is the CRM up, and may this machine reach it?"
        remedy = "" if remedy in str(error) else remedy
        check.found.unreachable.append(check.destination(("base_url",), str(error), remedy))
    except _CredentialsRefused:
        pass
    return check.found


class _CredentialsRefused(Exception):
    """The CRM refuses our credentials: nothing else can be asked."""


class _CrmCheck:
    """Asks one CRM and gathers what is wrong."""

    def __init__(self, subject: Subject, clock: Callable[[], datetime]) -> None:
        self.found = OnlineFindings()
        self._subject = subject
        self._clock = clock
        self._clock_compared = False
        self._connector = subject.crm.connector
        self._described: dict[str, Mapping[str, Any] | None] = {}
        self._failed: set[str | None] = set()
        """The names of probes that failed."""
        self._answers: dict[str, JudgedAnswer] = {}

    def run(self) -> None:
        """Run the probes, then compare the mapped fields with those that the CRM describes.

        Raises:
            DeliveryError: the CRM cannot be reached.
        """
        objects = self._subject.mapping.file.objects
        mapped = {section.type or name for name, section in objects.items()}
        for probe in self._connector.probes:
            if probe.section.object in (None, *mapped) and probe.section.after not in self._failed:
                self._probe(probe)
            elif probe.section.after in self._failed:
                self._failed.add(probe.section.name)
        for name, section in objects.items():
            kind = self._connector.objects[section.type or name]
            if kind.describe is None:
                message = f'the connector {self._connector.name} cannot ask which fields "{kind.name}" has'
                self.found.warnings.append(self.mapped(("objects", name), message, "they are not checked"))
                continue
            fields = self._fields_of(kind, kind.describe, name)
            if fields is not None:
                for field_name in section.fields:
                    self._field(kind.describe, name, field_name, fields)
        if not self._connector.probes and not any(
            self._connector.objects[section.type or name].describe for name, section in objects.items()
        ):
            unknown = self._try_token()
            message = f"the connector {self._connector.name} tells no question that is harmless"
            remedy = f"whether the {unknown} is not known: give the connector a [[probe]]"
            self.found.warnings.append(self.destination((), message, remedy))

    def _try_token(self) -> str:
        """Get a token where nothing else can be asked; return what is still unknown about it."""
        if not self._connector.auth.tokens:
            return "token works"
        try:
            self._subject.crm.log_in("login")
        except DeliveryError as error:
            if not _is_refusal(error):
                raise
            self.found.problems.append(self.destination(("secrets",), str(error), _SECRETS))
            raise _CredentialsRefused from error
        return "token that was got opens anything"

    # -- places ----------------------------------------------------------------------
    def destination(self, path: KeyPath, message: str, remedy: str) -> Problem:
        """A problem with the destination itself."""
        return self._subject.problem(path, message, remedy)

    def mapped(self, path: KeyPath, message: str, remedy: str) -> Problem:
        """A problem with a key of the mapping, at its line."""
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
                    raise _CredentialsRefused
                return
        if probe.writes is not None and not self._may_write(probe, judged.answer):
            self._failed.add(section.name)

    def _answer_of(self, probe: Probe) -> JudgedAnswer:
        """The answer to a probe; probes with the same request share one answer."""
        request = probe.section.model_dump_json(
            include={"method", "path", "query", "headers", "json_", "form"}
        )
        if request not in self._answers:
            self._answers[request] = self._ask(probe, f'probe "{probe.section.name}"')
        return self._answers[request]

    def _judge(self, probe: Probe, judged: JudgedAnswer) -> None:
        section = probe.section
        try:
            self._subject.crm.raise_for_meaning(judged.meaning, probe.request, judged.description)
        except DeliveryError as error:
            if not _is_refusal(error):
                raise
            path: KeyPath = ("secrets",) if judged.meaning.result == "refresh" else ()
            self.found.problems.append(self.destination(path, str(error), section.remedy))
        else:
            if probe.expect is not None:
                message = f"{judged.description}, and that is not what was expected: {section.expect}"
                self.found.problems.append(self.destination((), message, section.remedy))

    def _may_write(self, probe: Probe, answer: Answer) -> bool:
        """Whether the destination's user may write every field of the object that the mapping writes."""
        assert probe.writes is not None  # noqa: S101 -- the caller has looked
        all_may = True
        for name, section in self._subject.mapping.file.objects.items():
            if (section.type or name) != probe.section.object:
                continue
            for about in section.fields:
                names = {**self._subject.crm.common(), **answer.names, "field": about}
                if not _true_or_unknown(probe.writes, names):
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
            if not _is_refusal(error):
                raise
            # Without a token, or with a request that cannot be rendered, the other questions would fail too.
            self.found.problems.append(self.destination(("secrets",), str(error), _SECRETS))
            raise _CredentialsRefused from error
        self._compare_clocks(judged.answer, before)
        return judged

    def _compare_clocks(self, answer: Answer, before: datetime) -> None:
        theirs = http_date(answer.headers.get("date", ""))
        ahead = 0.0 if theirs is None else (before - theirs).total_seconds()
        if self._clock_compared or abs(ahead) <= FURTHEST_CLOCK:
            return
        self._clock_compared = True
        direction = "ahead of" if ahead > 0 else "behind"
        message = f"this machine's clock is {abs(ahead):.0f} s {direction} the CRM's"
        remedy = "let NTP set it: timedatectl set-ntp true"
        self.found.problems.append(self.destination((), message, remedy))

    def _fields_of(self, kind: ObjectType, describe: Describe, name: str) -> Mapping[str, Any] | None:
        """The fields that the CRM describes for a type, by name; None where it does not. Asked once."""
        if kind.name in self._described:
            return self._described[kind.name]
        self._described[kind.name] = None
        what = f'describe "{kind.name}"'
        judged = self._ask(describe, what)
        try:
            self._subject.crm.raise_for_meaning(judged.meaning, describe.request, judged.description)
        except DeliveryError as error:
            if not _is_refusal(error):
                raise
            if judged.meaning.result == "refresh":
                self.found.problems.append(self.destination(("secrets",), str(error), _SECRETS))
                raise _CredentialsRefused from error
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
        reported = set[tuple[KeyPath, str]]()
        for where, origin, value in self._values(name, about, section):
            wrong = shape.refuses(value, self._connector.file.length_unit)
            if wrong is not None and (where, wrong[0]) not in reported:
                reported.add((where, wrong[0]))
                self.found.problems.append(self.mapped(where, f"{what}: {origin} {wrong[0]}", wrong[1]))
        self._length(path, what, section, shape)

    def _length(self, path: KeyPath, what: str, section: FieldSection, shape: "FieldShape") -> None:
        if shape.length is None:
            return
        limits = [limit for limit in (section.limit, section.limit_bytes) if limit is not None]
        unit = UNIT_NAMES[self._connector.file.length_unit]
        if limits and min(limits) > shape.length:
            message = f"{what}: the CRM takes {shape.length} {unit}, and the limit is {min(limits)}"
            where: KeyPath = (*path, "limit" if section.limit is not None else "limit_bytes")
            self.found.problems.append(self.mapped(where, message, f"write limit = {shape.length}"))
        elif not limits and _is_unlimited(section.value):
            message = f"{what}: the CRM takes {shape.length} {unit}, and nothing limits the value"
            self.found.warnings.append(self.mapped(path, message, f"add limit = {shape.length}"))

    def _values(self, name: str, about: str, section: FieldSection) -> Iterator[tuple[KeyPath, str, Any]]:
        """Values that a field is known to get: constants, those of its map, those of the mapping's cases.

        Yields the key path, words for the message, and the value.
        """
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


def _true_or_unknown(condition: Condition, names: Values) -> bool:
    """Whether a condition is true, or cannot be evaluated: then nothing is known against the field."""
    try:
        return condition.decides(names)
    except ExpressionError:
        return True


def _is_refusal(error: DeliveryError) -> bool:
    """Whether the CRM refused us for good, so that asking again does not help."""
    return isinstance(error, Permanent) or error.blame == "credentials"


def _is_unlimited(value: Any) -> bool:
    return isinstance(value, str) and any(name in value for name in _LONG) and "shorten" not in value


def _by_name(describe: Describe, listed: Any) -> Mapping[str, Any] | None:
    if isinstance(listed, Mapping):
        return {str(name): content for name, content in listed.items()}
    if not isinstance(listed, list):
        return None
    return {as_text(dig(item, describe.section.name)): item for item in listed}
