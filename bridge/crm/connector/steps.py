"""Compiled steps: the requests of a `create`, `update` or `upsert`, and the polling of jobs that some start.

Begin at `Step`; `compile_steps()` makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from bridge.crm.connector.compiling import ANSWER, Compiler, Condition, Names, Pick
from bridge.crm.connector.foreign_answer import expected_of
from bridge.crm.connector.request import Batch, Request, compile_batch, compile_request
from bridge.crm.connector.request_schema import StepSection
from bridge.lib.toml_file import KeyPath


@dataclass(frozen=True, slots=True)
class Poll:
    """Polls a job that a step has started, until it has ended."""

    request: Request
    until: Condition
    failed: Condition | None
    reason: Pick | None
    wait: Pick
    longest: timedelta
    capture: Mapping[str, Pick]
    id: Pick | None
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a `create`, `update` or `upsert`, and what is kept of its answer."""

    name: str
    request: Request
    when: Condition | None
    capture: Mapping[str, Pick]
    id: Pick | None
    fields: Pick | None
    reread: bool
    batch: Batch | None
    poll: Poll | None = None


def compile_steps(
    compiler: Compiler, key_path: KeyPath, sections: Sequence[StepSection], names: Names
) -> tuple[Step, ...]:
    """Compile steps in their order; each may use what earlier ones captured.

    The steps of an update count as idempotent unless they say otherwise: setting a field twice does no harm.
    """
    if key_path[-1] == "update":
        sections = [
            each if each.idempotent is not None else each.model_copy(update={"idempotent": True})
            for each in sections
        ]
    captured = frozenset(name for section in sections for name in _captures(section))
    steps = []
    known: Names = {**names, "captured": captured}
    for number, section in enumerate(sections):
        steps.append(_compile_step(compiler, (*key_path, number), section, known))
        if section.id is not None or section.reread or (section.poll and section.poll.id is not None):
            # From the step on whose answer gives the object's id, later steps may use `id`.
            known = {**known, "id": None}
    _check_order(compiler, key_path, sections, steps)
    return tuple(steps)


def _compile_step(compiler: Compiler, key_path: KeyPath, section: StepSection, names: Names) -> Step:
    capture = _capture(compiler, key_path, section.capture)
    of_id = compiler.pick((*key_path, "id"), section.id)
    # An update's answer may be empty although it often carries the id.
    needs_no_id = section.reread or key_path[-2] == "update"
    request = compile_request(compiler, key_path, section, names)
    request = replace(request, expects=expected_of(*capture.values(), None if needs_no_id else of_id))
    return Step(
        name=section.name or str(int(key_path[-1]) + 1),
        request=request,
        when=compiler.condition(compiler.language(names, common=False), (*key_path, "when"), section.when),
        capture=capture,
        id=of_id,
        fields=compiler.pick((*key_path, "fields"), section.fields),
        reread=section.reread,
        batch=compile_batch(compiler, key_path, (section, request), section.batch, names),
        poll=_compile_poll(compiler, (*key_path, "poll"), section, names),
    )


def _capture(compiler: Compiler, key_path: KeyPath, paths: Mapping[str, str]) -> dict[str, Pick]:
    """Name → where the captured value stands in the answer."""
    return {
        name: pick
        for name, text in paths.items()
        if (pick := compiler.pick((*key_path, "capture", name), text)) is not None
    }


def _captures(section: StepSection) -> list[str]:
    """The names that a step captures, from its own answer or from the last poll."""
    return [*section.capture, *(section.poll.capture if section.poll is not None else ())]


def _compile_poll(compiler: Compiler, key_path: KeyPath, step: StepSection, names: Names) -> Poll | None:
    """Compile `poll` of a step; its texts may use what the step captured."""
    section = step.poll
    if section is None:
        return None
    if step.batch is not None:
        compiler.problem(
            key_path, "stands beside a batch, whose answer is many jobs", "leave one of them out"
        )
    # After a restart only these are known of the step: they are kept with the delivery.
    known: Names = {"key": names["key"], "captured": names["captured"], "id": None}
    asked = section.model_copy(update={"idempotent": True})
    until = compiler.condition(compiler.language(ANSWER, common=False), (*key_path, "until"), section.until)
    wait: Pick | None = Pick(section.wait, None)
    if "{{" in section.wait:
        wait = compiler.pick((*key_path, "wait"), section.wait)
    assert until is not None  # noqa: S101 -- it is required
    assert wait is not None  # noqa: S101 -- it has a default
    return Poll(
        request=compile_request(compiler, key_path, asked, known),
        until=until,
        failed=compiler.condition(
            compiler.language(ANSWER, common=False), (*key_path, "failed"), section.failed
        ),
        reason=compiler.pick((*key_path, "reason"), section.reason),
        wait=wait,
        longest=section.longest,
        capture=_capture(compiler, key_path, section.capture),
        id=compiler.pick((*key_path, "id"), section.id),
    )


def _check_order(
    compiler: Compiler, key_path: KeyPath, sections: Sequence[StepSection], steps: Sequence[Step]
) -> None:
    """Note every step that uses what only itself or a later step captures."""
    setters = {name: number for number, section in enumerate(sections) for name in _captures(section)}
    uses = [captured_by(step) for step in steps]
    for number, names in enumerate(uses):
        for name in sorted(names):
            setter = setters.get(name)
            if setter is None or setter < number:
                continue
            step_path = (*key_path, number)
            back = {setters[used] for used in uses[setter] if used in setters}
            if setter == number:
                message = f'uses "captured.{name}", which is its own answer'
                compiler.problem(step_path, message, "take it from an earlier step")
            elif number in back:
                message = f'and step "{steps[setter].name}" wait for what the other captures: a cycle'
                compiler.problem(step_path, message, "let one of them do without")
            else:
                message = f'uses "captured.{name}", which step "{steps[setter].name}" captures only later'
                compiler.problem(step_path, message, "put that step before this one")


def captured_by(step: Step) -> set[str]:
    """The names `captured.NAME` that a step's texts use."""
    templates = [*step.request.tree.templates, *([step.when.template] if step.when is not None else ())]
    if step.batch is not None:
        templates += step.batch.item.templates
    return {name for template in templates for owner, name in template.reads if owner == "captured"}
