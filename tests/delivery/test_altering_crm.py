"""A CRM that keeps other values than it takes, or shows them in shapes of its own: on the wire."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.lib.documents import document_of
from bridge.model.plan import PlannedField
from bridge.model.write_policy import WritePolicy
from tests.fixtures.crm_connector_parts import COMMON, CREATE, FIND, READ, UPDATE
from tests.fixtures.small_crm import SearchCrm, Seen, Server, ServerAnswer, SyncBench, planned

SEARCH, POST, GET, PATCH = "GET /contacts", "POST /contacts", "GET /contacts/1", "PATCH /contacts/1"
PLAIN = COMMON + FIND.replace("LAG", "0s") + READ + CREATE + UPDATE
TOLD = (
    PLAIN.replace('id = "data.id"', 'id = "data.id"\nfields = "data"')
    .replace("links) }}", 'links) }}"\nfields = "data')
    .replace('data"\n"', 'data"\n')
)


class AlteringCrm(SearchCrm):
    """`alter` is what it makes of each field that is written; its answers to writes carry all fields."""

    alter: Callable[[Any], Any] = staticmethod(lambda value: value)

    def _carry_out(self, seen: Seen) -> ServerAnswer:
        status, body, headers = super()._carry_out(seen)
        if seen.method in ("POST", "PATCH") and status < 300:
            crm_id = str(body["data"]["id"]) if seen.method == "POST" else seen.path.rpartition("/")[2]
            kept = self.objects[crm_id]
            kept |= {name: type(self).alter(kept[name]) for name in seen.json if name != "key"}
            body = {"data": {**kept, "id": crm_id}}
        return status, body, headers


Made = tuple[SyncBench, AlteringCrm]
Makes = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, server: Server) -> Iterator[Makes]:
    made: list[SyncBench] = []

    def bench(alter: Callable[[Any], Any], text: str = PLAIN) -> Made:
        server.log.clear()
        made.append(SyncBench(tmp_path / "ledger.db", text, server))
        crm = AlteringCrm(server, made[0].clock)
        crm.__class__ = type("Altering", (AlteringCrm,), {"alter": staticmethod(alter)})
        return made[0], crm

    yield bench
    for one in made:
        one.close()


def contact(value: Any, write: WritePolicy = WritePolicy.UNLESS_EDITED, **more: Any) -> Any:
    field = PlannedField(value, write, **more)
    return planned(
        "contact", {"key": "a"}, {"name": (field.value, field.write, field.separator, field.default)}
    )


def cut(value: Any) -> Any:
    return value[:4]


def utf8mb3(value: Any) -> Any:
    return "".join(char if char <= "\uffff" else "????" for char in value)


ALTERING = [
    (cut, "a long text", "shortened"),
    (utf8mb3, "王👍芳", "characters"),
    (str.strip, " x ", "spaces"),
    (str.upper, "Wang", "case"),
    (lambda _: None, "hot", "emptied"),
]


@pytest.mark.parametrize(("alter", "sent", "kind"), ALTERING)
@pytest.mark.parametrize("text", [PLAIN, TOLD], ids=["read behind", "in the answer"])
def test_value_altered_by_the_crm_is_no_edit_and_is_reported(
    make: Makes, alter: Callable[[Any], Any], sent: str, kind: str, text: str
) -> None:
    bench, crm = make(alter, text)
    assert bench.deliver(contact(sent), event="001 a") == "delivered"
    # One look behind the write, where the answer does not tell.
    assert bench.server.told() == ([SEARCH, POST, GET] if text is PLAIN else [SEARCH, POST])
    (told,) = bench.ledger.counts().altered
    assert {**document_of(told), "last_at": None} == {
        "destination": "crm", "object": "contact", "field": "name", "kind": kind, "count": 1, "last_at": None,
    }  # fmt: skip
    (shown,) = bench.ledger.show_call(1).crm_objects
    assert (shown.object, shown.crm_id, shown.altered) == ("contact", "1", {"name": kind})
    bench.restart()
    # The same again is not sent; a newer value is; a person's edit stays.
    assert bench.deliver(contact(sent), event="002 b", call="c2") == "delivered"
    assert not any(each.startswith(("POST", "PATCH")) for each in bench.server.told())
    assert bench.deliver(contact("new"), event="003 c", call="c3") == "delivered"
    assert crm.held()[0]["name"] == alter("new")
    crm.objects["1"]["name"] = "by hand"
    assert bench.deliver(contact("newer"), event="004 d", call="c4") == "delivered"
    assert crm.held()[0]["name"] == "by hand"


@pytest.mark.parametrize("write", list(WritePolicy))
def test_alteration_shown_in_an_answer_is_noticed_under_every_policy(make: Makes, write: WritePolicy) -> None:
    bench, _ = make(cut, TOLD)
    default = "a long text" if write is WritePolicy.WHILE_DEFAULT else None
    assert bench.deliver(contact("a long text", write, default=default)) == "delivered"
    assert [one.kind for one in bench.ledger.counts().altered] == ["shortened"]
    assert bench.server.told() == [SEARCH, POST]


@pytest.mark.parametrize("write", [write for write in WritePolicy if write is not WritePolicy.UNLESS_EDITED])
def test_no_read_is_spent_where_no_later_comparison_needs_it(make: Makes, write: WritePolicy) -> None:
    bench, _ = make(cut)
    assert bench.deliver(contact("a long text", write, default="a long text")) == "delivered"
    assert bench.server.told() == [SEARCH, POST]
    assert bench.ledger.counts().altered == []


def test_value_kept_as_sent_is_not_reported_as_altered(make: Makes) -> None:
    bench, _ = make(lambda value: value, TOLD)
    bench.deliver(contact("x"))
    assert bench.ledger.counts().altered == []
    assert bench.ledger.show_call(1).crm_objects[0].altered == {}


def test_failed_read_after_a_write_does_no_harm(make: Makes) -> None:
    bench, crm = make(cut)
    crm.next(GET, (500, {}, {}))
    assert bench.deliver(contact("a long text")) == "delivered"
    crm.next(GET, (404, {}, {}))
    # A record that is gone by its id and found by its key is asked for again.
    assert bench.deliver(contact("a longer text"), event="6", call="c2") == "Transient"
    assert bench.ledger.counts().altered == []


def test_search_without_lag_serves_as_the_read_after_a_write(make: Makes) -> None:
    bench, _ = make(cut, COMMON + FIND.replace("LAG", "0s") + CREATE + UPDATE)
    bench.deliver(contact("a long text"))
    assert bench.server.told() == [SEARCH, POST, SEARCH]
    assert [one.kind for one in bench.ledger.counts().altered] == ["shortened"]


def test_lagging_search_is_used_only_for_objects_known_for_long(make: Makes) -> None:
    bench, crm = make(cut, COMMON + FIND.replace("LAG", "30s") + CREATE + UPDATE)
    bench.deliver(contact("a long text"))
    assert bench.server.told() == [SEARCH, POST]
    crm.make(key="b")
    theirs = planned("contact", {"key": "b"}, {"name": ("a long text", WritePolicy.UNLESS_EDITED)})
    bench.deliver(theirs, call="c2")
    assert bench.server.told() == [SEARCH, "PATCH /contacts/2", SEARCH]
    assert [one.kind for one in bench.ledger.counts().altered] == ["shortened"]
    newer = planned("contact", {"key": "b"}, {"name": ("new text", WritePolicy.UNLESS_EDITED)})
    bench.deliver(newer, event="6", call="c3")
    assert crm.objects["2"]["name"] == "new "


@pytest.mark.parametrize("default", ["未知", "Unknown"])
def test_altered_default_is_replaced_by_the_first_real_value(make: Makes, default: str) -> None:
    alter = str.upper if default.isascii() else lambda value: value.replace("未知", "??")
    bench, crm = make(alter)

    def name(value: str) -> Any:
        return contact(value, WritePolicy.WHILE_DEFAULT, default=default)

    bench.deliver(name(default), event="002 b")
    assert crm.held()[0]["name"] != default
    bench.deliver(name(default), event="003 c", call="c2")
    bench.deliver(name("WANG"), event="001 a", call="c3")
    assert crm.held()[0]["name"] == "WANG"
    bench.deliver(name("LI"), event="004 d", call="c4")
    assert crm.held()[0]["name"] == "WANG"


# -- shapes ---------------------------------------------------------------------------------------

RICH = '[objects.contact.read_as]\nname = "{{ value[0].text if value else none }}"\n'
FALSE = '[objects.contact.read_as]\n"*" = "{{ none if value is false else value }}"\n'


@pytest.mark.parametrize(
    "write", [WritePolicy.APPEND, WritePolicy.UNLESS_EDITED, WritePolicy.IF_EMPTY, WritePolicy.GREATEST]
)
@pytest.mark.parametrize(
    ("held", "shape"),
    [([{"text": "old"}], "a list of tables"), (False, "true or false"), ({"value": "old"}, "a table")],
)
def test_value_of_unknown_shape_parks_and_writes_nothing(
    make: Makes, write: WritePolicy, held: Any, shape: str
) -> None:
    bench, crm = make(lambda value: value)
    crm.make(key="a", name=held)
    assert bench.deliver(contact("new", write)) == "Permanent"
    said = str(bench.error)
    for word in ("object contact", "field name", shape, "read_as", str(write)):
        assert word in said
    assert bench.error is not None
    assert "old" not in bench.error.cause
    assert crm.held()[0]["name"] == held
    assert not any(each.startswith(("POST", "PATCH")) for each in bench.server.told())


@pytest.mark.parametrize(
    ("read_as", "held", "write", "then"),
    [
        (RICH, [{"text": "old"}], WritePolicy.APPEND, "old\nnew"),
        (RICH, [], WritePolicy.APPEND, "new"),
        (RICH, [{"text": ""}], WritePolicy.IF_EMPTY, "new"),
        (RICH, [{"text": "old"}], WritePolicy.IF_EMPTY, None),
        (FALSE, False, WritePolicy.APPEND, "new"),
        (FALSE, False, WritePolicy.IF_EMPTY, "new"),
        (FALSE, False, WritePolicy.UNLESS_EDITED, "new"),
        (FALSE, "old", WritePolicy.APPEND, "old\nnew"),
        (FALSE, "old", WritePolicy.UNLESS_EDITED, None),
    ],
)
def test_value_with_read_as_is_compared_as_text(
    make: Makes, read_as: str, held: Any, write: WritePolicy, then: str | None
) -> None:
    bench, crm = make(lambda value: value, PLAIN + read_as)
    crm.make(key="a", name=held)
    bench.deliver(contact("new", write))
    written = [seen.json["name"] for seen in bench.server.log if seen.method == "PATCH"]
    assert written == ([] if then is None else [then])


def test_value_in_the_crms_own_shape_after_our_write_is_ours(make: Makes) -> None:
    bench, crm = make(lambda value: [{"text": value}])
    bench.deliver(contact("first"), event="001 a")
    assert bench.ledger.counts().altered == []
    bench.deliver(contact("second"), event="002 b", call="c2")
    assert crm.held()[0]["name"] == [{"text": "second"}]
    crm.objects["1"]["name"] = [{"text": "by hand"}]
    assert bench.deliver(contact("third"), event="003 c", call="c3") == "Permanent"
    assert "a list of tables" in str(bench.error)


def test_joined_options_are_a_list_where_the_connector_says_so(make: Makes) -> None:
    tags = "[objects.contact.read_as]\nname = \"{{ value.split(';') if value else [] }}\"\n"
    bench, crm = make(";".join, PLAIN + tags)
    crm.make(key="a", name="vip;old")
    bench.deliver(contact(["new"], WritePolicy.APPEND))
    assert crm.held()[0]["name"] == "vip;old;new"
    assert bench.server.log[-1].json == {"name": ["vip", "old", "new"]}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "old", [WritePolicy.ALWAYS, WritePolicy.CREATE, WritePolicy.IF_EMPTY, WritePolicy.GREATEST]
)
def test_value_sent_under_another_policy_is_ours(make: Makes, old: WritePolicy, shared: bool) -> None:
    bench, crm = make(lambda value: value)

    def name(value: str, write: WritePolicy) -> Any:
        return planned("contact", {"key": "a"}, {"name": (value, write)}, shared=shared)

    bench.deliver(name("first", old))
    bench.restart()
    bench.deliver(name("second", WritePolicy.UNLESS_EDITED))
    assert crm.held()[0]["name"] == "second"
    crm.objects["1"]["name"] = "by hand"
    bench.restart()
    bench.deliver(name("third", WritePolicy.UNLESS_EDITED))
    assert crm.held()[0]["name"] == "by hand"


def test_failing_read_as_shows_no_phone(make: Makes) -> None:
    bench, crm = make(lambda value: value, PLAIN + RICH.replace("value[0].text", "value + 1"))
    crm.make(key="a", name="+8615899770637")
    assert bench.deliver(contact("new", WritePolicy.APPEND)) == "Permanent"
    assert "5899770637" not in str(bench.error)


def test_failing_read_as_parks_and_names_the_field(make: Makes) -> None:
    bench, crm = make(lambda value: value, PLAIN + RICH.replace("[0].text", "[0].text ~ (1 / 0)"))
    crm.make(key="a", name=[{"text": "old"}])
    assert bench.deliver(contact("new", WritePolicy.APPEND)) == "Permanent"
    assert "field name: read_as cannot read" in str(bench.error)
