"""Steps, compiled: the requests of a `create`, `update` or `upsert`, and the jobs that some of them begin."""

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
    """How a job is asked whether it has ended."""

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
    """One step of a `create`, `update` or `upsert`."""

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
    compiler: Compiler, place: KeyPath, sections: Sequence[StepSection], names: Names
) -> tuple[Step, ...]:
    """Steps in order; each may use what earlier ones captured.

    An update sets fields to values, so it may be repeated unless it says otherwise.
    """
    if place[-1] == "update":
        sections = [
            each if each.idempotent is not None else each.model_copy(update={"idempotent": True})
            for each in sections
        ]
    captured = frozenset(name for section in sections for name in _captures(section))
    steps = []
    known: Names = {**names, "captured": captured}
    for number, section in enumerate(sections):
        steps.append(_compile_step(compiler, (*place, number), section, known))
        if section.id is not None or section.reread or (section.poll and section.poll.id is not None):
            # Once a step has told the object's id, later ones may use it.
            known = {**known, "id": None}
    _check_order(compiler, place, sections, steps)
    return tuple(steps)


def _compile_step(compiler: Compiler, place: KeyPath, section: StepSection, names: Names) -> Step:
    capture = _capture(compiler, place, section.capture)
    of_id = compiler.pick((*place, "id"), section.id)
    # The answer to an update may be empty whatever else it carries at other times.
    needs_no_id = section.reread or place[-2] == "update"
    request = compile_request(compiler, place, section, names)
    request = replace(request, expects=expected_of(*capture.values(), None if needs_no_id else of_id))
    return Step(
        name=section.name or str(int(place[-1]) + 1),
        request=request,
        when=compiler.condition(compiler.language(names, common=False), (*place, "when"), section.when),
        capture=capture,
        id=of_id,
        fields=compiler.pick((*place, "fields"), section.fields),
        reread=section.reread,
        batch=compile_batch(compiler, place, (section, request), section.batch, names),
        poll=_compile_poll(compiler, (*place, "poll"), section, names),
    )


def _capture(compiler: Compiler, place: KeyPath, paths: Mapping[str, str]) -> dict[str, Pick]:
    """Where the captured values stand in an answer, by their names."""
    return {
        name: pick
        for name, text in paths.items()
        if (pick := compiler.pick((*place, "capture", name), text)) is not None
    }


def _captures(section: StepSection) -> list[str]:
    """The names that a step captures, of its answer or of its job's."""
    return [*section.capture, *(section.poll.capture if section.poll is not None else ())]


def _compile_poll(compiler: Compiler, place: KeyPath, step: StepSection, names: Names) -> Poll | None:
    """How the job of a step is asked for; it may use what the step's answer gave."""
    section = step.poll
    if section is None:
        return None
    if step.batch is not None:
        compiler.problem(place, "stands beside a batch, whose answer is many jobs", "leave one of them out")
    # A later try knows no more of the call than this.
    known: Names = {"key": names["key"], "captured": names["captured"], "id": None}
    asked = section.model_copy(update={"idempotent": True})
    until = compiler.condition(compiler.language(ANSWER, common=False), (*place, "until"), section.until)
    wait: Pick | None = Pick(section.wait, None)
    if "{{" in section.wait:
        wait = compiler.pick((*place, "wait"), section.wait)
    assert until is not None  # noqa: S101 -- it is required
    assert wait is not None  # noqa: S101 -- it has a default
    return Poll(
        request=compile_request(compiler, place, asked, known),
        until=until,
        failed=compiler.condition(
            compiler.language(ANSWER, common=False), (*place, "failed"), section.failed
        ),
        reason=compiler.pick((*place, "reason"), section.reason),
        wait=wait,
        longest=section.longest,
        capture=_capture(compiler, place, section.capture),
        id=compiler.pick((*place, "id"), section.id),
    )


def _check_order(
    compiler: Compiler, place: KeyPath, sections: Sequence[StepSection], steps: Sequence[Step]
) -> None:
    """What a step uses must have been captured before it."""
    setters = {name: number for number, section in enumerate(sections) for name in _captures(section)}
    uses = [captured_by(step) for step in steps]
    for number, names in enumerate(uses):
        for name in sorted(names):
            setter = setters.get(name)
            if setter is None or setter < number:
                continue
            where = (*place, number)
            back = {setters[used] for used in uses[setter] if used in setters}
            if setter == number:
                message = f'uses "captured.{name}", which is its own answer'
                compiler.problem(where, message, "take it from an earlier step")
            elif number in back:
                message = f'and step "{steps[setter].name}" wait for what the other captures: a cycle'
                compiler.problem(where, message, "let one of them do without")
            else:
                message = f'uses "captured.{name}", which step "{steps[setter].name}" captures only later'
                compiler.problem(where, message, "put that step before this one")


def captured_by(step: Step) -> set[str]:
    """What a step uses of what others captured."""
    templates = [*step.request.tree.templates, *([step.when.template] if step.when is not None else ())]
    if step.batch is not None:
        templates += step.batch.item.templates
    return {name for template in templates for owner, name in template.reads if owner == "captured"}
