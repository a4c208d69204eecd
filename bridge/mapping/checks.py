"""Checks what pydantic cannot: links, maps, rules and tests that must agree, and every expression.

The checks read the file as it was written, not pydantic's model of it, so that one wrong type does not hide
the other mistakes. Begin at `check_contents()`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge.lib.errors import Problem, did_you_mean
from bridge.lib.expression import ExpressionError, Language, Template
from bridge.lib.phone import phone_kind
from bridge.lib.toml_file import KeyPath, TomlFile
from bridge.lib.validation import marked
from bridge.mapping.schema import CaseSection, Form, MappingFile, TrialSection
from bridge.model.field_policies import policy_named
from bridge.model.skip_reasons import NO_OBJECT, NOT_IN_TRIAL, without_key
from bridge.model.write_policy import WritePolicy

Faults = Iterator[tuple[KeyPath, str, str]]


def check_contents(file: TomlFile) -> list[Problem]:
    """The mistakes between keys of a mapping file, each with its line."""
    data = file.data
    return [
        Problem(str(file.path), ".".join(map(str, path)), message, remedy, file.line(path))
        for check in (_links, _fields, _maps, _rules, _trial, _tests)
        for path, message, remedy in check(data)
    ]


def read_templates(file: TomlFile, language: Language) -> tuple[dict[KeyPath, Template], list[Problem]]:
    """The parsed text at each key path that may hold an expression, and the problems of the others."""
    templates: dict[KeyPath, Template] = {}
    problems: list[Problem] = []
    for path, text, form in marked(MappingFile, file.data, Form):
        if not isinstance(text, str):
            continue
        try:
            template = language.parse(text)
            _refuse_form(template, form)
        except ExpressionError as error:
            problems += [
                Problem(
                    str(file.path), ".".join(map(str, path)), fault.message, fault.remedy, file.line(path)
                )
                for fault in error.faults
            ]
            continue
        templates[path] = template
    return templates, problems


def _refuse_form(template: Template, form: Form) -> None:
    if form is Form.CONDITION and not template.whole:
        raise ExpressionError("is no condition", "write one expression: {{ call.talk_seconds > 0 }}")
    if form is Form.CONSTANT and not template.constant:
        raise ExpressionError(
            "holds an expression, which is not computed here", "write a constant, or compute it in `value`"
        )


def _table(data: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _list(data: Any, key: str) -> list[Any]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


# Links


def _links(data: dict[str, Any]) -> Faults:
    objects = _table(data, "objects")
    names = list(objects)
    links = {name: _targets(objects, name) for name in names}
    for name in names:
        for link, target in _table(objects, name, "link").items():
            if isinstance(target, str):
                mistake = _wrong_link(name, target, names, links)
                if mistake:
                    yield ("objects", name, "link", link), *mistake


def _targets(objects: Mapping[str, Any], name: str) -> list[str]:
    return [target for target in _table(objects, name, "link").values() if isinstance(target, str)]


def _wrong_link(
    name: str, target: str, names: Sequence[str], links: Mapping[str, Sequence[str]]
) -> tuple[str, str] | None:
    if target not in names:
        return f'there is no object "{target}" to link to', did_you_mean(target, names)
    if target == name:
        return f'"{name}" cannot be linked to itself', "name another object"
    if names.index(target) < names.index(name):
        return None
    back = _path(target, name, links)
    if back:
        circle = " → ".join([name, *back])
        return f"{circle} is a cycle of links", "leave out one of them: an object is linked to earlier ones"
    return (
        f'"{target}" comes after "{name}", so it cannot be linked yet',
        f"move [objects.{target}] before [objects.{name}]",
    )


def _path(start: str, end: str, links: Mapping[str, Sequence[str]]) -> list[str]:
    """The objects from `start` to `end` along links, both included; empty if they are not connected."""
    paths, seen = [[start]], {start}
    for path in paths:
        if path[-1] == end:
            return path
        for target in links.get(path[-1], ()):
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return []


# Fields and maps


def _fields(data: dict[str, Any]) -> Faults:
    maps = _table(data, "maps")
    for name, section in _table(data, "objects").items():
        for field, written in _table(section, "fields").items():
            if isinstance(written, dict):
                for key, message, remedy in _wrong_field(written, maps):
                    yield ("objects", name, "fields", field, key), message, remedy


def _wrong_field(written: Mapping[str, Any], maps: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    table, unknown, default = written.get("map"), written.get("unknown"), written.get("default")
    write = written.get("write", WritePolicy.ALWAYS)
    policy = policy_named(write)
    if isinstance(table, str) and table not in maps:
        remedy = did_you_mean(table, maps) or f"add a table [maps.{table}]"
        yield "map", f'there is no table "{table}" in [maps]', remedy
    if unknown is not None and table is None:
        yield "unknown", "has no map to be unknown in", "add `map`, or leave it out"
    if unknown == "default" and default is None:
        yield "unknown", "needs a default", "add `default`"
    if written.get("missing") is not None and default not in (None, "") and "{{" not in str(default):
        yield "missing", "never counts beside a default that is never empty", "leave one of them out"
    if written.get("missing") == "null" and not (policy is not None and policy.can_clear):
        yield "missing", f'clears nothing with write = "{write}"', 'use "omit", or write = "always"'
    if policy is not None and policy.needs_default and default in (None, ""):
        remedy = 'add `default`: default = "未知", and leave it out of `value`'
        yield "write", "needs a default: it is written while the CRM still holds that", remedy
    if "separator" in written and not (policy is not None and policy.takes_separator):
        yield "separator", "is only for a field that is appended to", 'add write = "append"'


def _maps(data: dict[str, Any]) -> Faults:
    tables: list[tuple[KeyPath, Any]] = [
        (("maps", name), table) for name, table in _table(data, "maps").items()
    ]
    for name, section in _table(data, "objects").items():
        for field in _table(section, "fields"):
            table_path: KeyPath = ("objects", name, "fields", field, "map")
            tables.append((table_path, _table(section, "fields", field, "map")))
    for path, table in tables:
        if isinstance(table, dict) and "" in table:
            yield (*path, ""), "is never looked up: an empty value goes by `default`", "use `default`"


# Rules and trial


def _rules(data: dict[str, Any]) -> Faults:
    seen = {NOT_IN_TRIAL, NO_OBJECT}
    for number, rule in enumerate(_list(data, "rules")):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            continue
        if name in seen:
            message = f'"{name}" is the name of something else already'
            yield ("rules", number, "name"), message, "give each rule a name of its own"
        seen.add(name)


def _trial(data: dict[str, Any]) -> Faults:
    trial = data.get("trial")
    if not isinstance(trial, dict):
        return
    # A misspelt key is a problem already, and would be the missing list.
    if not trial.keys() - TrialSection.model_fields and not any(trial.values()):
        yield ("trial",), "lists nothing, so nothing would be delivered", "list phones, tasks or projects"
    for index, phone in enumerate(_list(trial, "phones")):
        if isinstance(phone, str) and phone_kind(phone, "CN") in {"empty", "masked"}:
            yield ("trial", "phones", index), "is no whole phone number", 'write it like "+8613800138000"'


# Tests


def _tests(data: dict[str, Any]) -> Faults:
    for number, case in enumerate(_list(data, "tests")):
        if isinstance(case, dict):
            for path, message, remedy in _wrong_case(case, data):
                yield ("tests", number, *path), message, remedy


def _wrong_case(case: Mapping[str, Any], data: dict[str, Any]) -> Faults:
    misspelt = case.keys() - CaseSection.model_fields
    if not misspelt and not case.get("record") and not case.get("fields"):
        yield (), "has no record", "name a JSON file as `record`, or write `fields`"
    expected = [key for key in ("expect", "expect_skip", "expect_error") if key in case]
    if not misspelt and not expected:
        yield (), "expects nothing", "add expect.<object>.<field>, expect_skip or expect_error"
    if len(expected) > 1:
        yield (expected[1],), f"excludes {expected[0]}", "a case has one outcome: split it in two"
    rule = case.get("expect_skip")
    if isinstance(rule, str) and rule not in (rules := list(_skips(data))):
        yield ("expect_skip",), f'there is no rule "{rule}"', did_you_mean(rule, rules)
    objects = _table(data, "objects")
    for name, fields in _table(case, "expect").items():
        if name not in objects:
            yield ("expect", name), f'there is no object "{name}"', did_you_mean(name, objects)
            continue
        known = {**_table(objects, name, "key"), **_table(objects, name, "fields")}
        for field in fields if isinstance(fields, dict) else ():
            if field not in known:
                message = f'"{name}" has no field or part of a key "{field}"'
                yield ("expect", name, field), message, did_you_mean(field, known)


def _skips(data: dict[str, Any]) -> Iterator[str]:
    """Every reason for which this mapping can skip a call, for `expect_skip`."""
    for rule in _list(data, "rules"):
        if isinstance(rule, dict) and isinstance(rule.get("name"), str):
            yield rule["name"]
    if "trial" in data:
        yield NOT_IN_TRIAL
    yield NO_OBJECT
    for name in _table(data, "objects"):
        if _table(data, "objects", name).get("on_missing_key") == "skip":
            for part in _table(data, "objects", name, "key"):
                yield without_key(name, part)
