"""How fast a mapping of 40 fields makes plans, beside its expressions alone.

    python -m benchmarks.mapping

The peer is one bare Jinja2 expression, a list of the same 40 expressions with the same filters,
evaluated on the same calls in the same run: what the templating itself costs. A plan adds rules,
keys, tables, defaults, limits, the check that JSON can carry the value, and the reason of every
field that is left out. Budget: half the peer's rate; judged with the dialogue as a transcript, which
mappings have as a rule and which costs most. The cheapest 40 fields are shown beside it.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import jinja2

from benchmarks.texts import Record, varied_records
from bridge.lib.expression import AttributeTable
from bridge.mapping import load_mapping
from bridge.mapping.filters import MAPPING_FILTERS
from bridge.model.plan import Plan
from bridge.record.call import Call
from tests.fixtures.origins import MAIN

ZONE = ZoneInfo("Asia/Shanghai")
COUNT = 1500
ROUNDS = 7
BUDGET = 0.5

CONTACT = {
    "name": "call.name or '未知'",
    "company": "call.company",
    "area": "call.area",
    "grade": "call.grade",
    "tags": "call.tags | join(';')",
    "last_call": "call.started_at | iso8601",
    "owner": "call.user_sn",
    "sex": "call.sex",
    "national": "call.phone | national",
    "address": "record.address",
    "data1": "record.data1",
    "data2": "record.data2 or 'none'",
}
CALL = {
    "phone": "call.phone | e164",
    "direction": "call.direction",
    "grade": "call.grade_auto",
    "grade_manual": "call.grade_manual",
    "score": "call.score",
    "tags": "call.tags",
    "dynamic_tags": "call.dynamic_tags",
    "created_at": "call.created_at | iso8601",
    "started_at": "call.started_at | local",
    "connected_at": "call.connected_at | epoch_ms",
    "ended_at": "call.disconnected_at | iso8601('local')",
    "talk_seconds": "call.talk_seconds",
    "duration": "call.talk_seconds | mmss",
    "minutes": "call.talk_seconds | minutes",
    "milliseconds": "call.talk_seconds | ms",
    "long": "'long' if call.talk_seconds > 60 else 'short'",
    "hangup_by": "call.hangup_by",
    "task": "call.task_name",
    "project": "call.project_name",
    "agent": "call.agent_name",
    "remark": "call.remark",
    "last_reply": "call.last_reply | html",
    "summary": "call.summary",
    "wanted": "'有需求' in call.tags",
    "answered": "call.answered",
    "charged": "call.charged_minutes",
    "transcript": "call.dialogue | transcript",
    "turns": "call.dialogue | length",
}
EXTRAS = {
    "contact.grade": ', map = { A = "hot", B = "warm" }, default = "cold"',
    "contact.name": ', limit = 80, write = "if_empty"',
    "contact.owner": ', map = "owners", unknown = "omit"',
    "call.transcript": ", limit = 60000",
    "call.last_reply": ", limit_bytes = 400",
}


Section = dict[str, str]


def mapping_text(objects: dict[str, Section]) -> str:
    """The mapping's file."""
    lines = ['connector = "sandbox"', "[maps.owners]", '"SYSUSER|1" = "7"']
    lines += ["[[rules]]", 'name = "no voice tests"', 'when = "{{ not call.is_voice_test }}"']
    for name, fields in objects.items():
        key = "phone = '{{ call.phone | e164 }}'" if name == "contact" else "call_key = '{{ call.key }}'"
        lines += [f"[objects.{name}]", f"key = {{ {key} }}"]
        lines += ['link = { contact = "contact" }'] if name == "call" else []
        lines += [f"[objects.{name}.fields]"]
        for field, expression in fields.items():
            extra = EXTRAS.get(f"{name}.{field}", "")
            lines.append(f'{field} = {{ value = "{{{{ {expression} }}}}"{extra} }}')
    return "\n".join(lines)


def rate(calls: list[Call], one: Callable[[Call], object]) -> float:
    """Calls a second; each call is fresh, because it keeps what was read of it once."""
    started = time.perf_counter()
    for call in calls:
        one(call)
    return len(calls) / (time.perf_counter() - started)


def measure(records: list[Record], objects: dict[str, Section]) -> tuple[float, float, float]:
    """Records a second by the bare expression and by plans, and the ratio of the two."""
    expressions = [expression for fields in objects.values() for expression in fields.values()]
    assert len(expressions) == 40
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.toml"
        path.write_text(mapping_text(objects), "utf-8")
        mapping = load_mapping(path)
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 -- nothing is shown to a browser
    environment.filters.update(MAPPING_FILTERS)
    bare = environment.compile_expression(f"[{', '.join(expressions)}]")

    def calls() -> list[Call]:
        return [Call.of(one, one["uuid"], MAIN) for one in records]

    def evaluate(call: Call) -> object:
        return bare(call=call, record=AttributeTable(call.record), _zone=ZONE, _country="CN")

    def plan(call: Call) -> object:
        planned = mapping.plan(call)
        assert isinstance(planned, Plan)
        return planned

    pairs = [(rate(calls(), evaluate), rate(calls(), plan)) for _ in range(ROUNDS)]
    alone, planned = (statistics.median(figures) for figures in zip(*pairs, strict=True))
    return alone, planned, statistics.median(ours / theirs for theirs, ours in pairs)


def main() -> int:
    """Print all figures; 1 when the budget is not kept."""
    records = list(varied_records(COUNT))
    without = {name: one for name, one in CALL.items() if "dialogue" not in one}
    without |= {"data3": "record.data3", "data4": "record.data4 or call.remark"}
    for what, fields in (("without the dialogue", without), ("with it", CALL)):
        alone, planned, ratio = measure(records, {"contact": CONTACT, "call": fields})
        print(
            f"{what}: bare expression {alone:.0f} records/s, plans {planned:.0f} records/s, ratio {ratio:.2f}"
        )
    kept = ratio >= BUDGET
    print(f"budget {'kept' if kept else 'MISSED'}: {BUDGET:.2f} of the bare expression, with the dialogue")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
