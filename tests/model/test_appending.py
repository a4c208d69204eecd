"""Adding a value to what a CRM holds, and telling later whether it stands there, however changed."""

from typing import Any

import pytest

from bridge.model.appending import fingerprint_of, standing_anywhere, was_added, with_added
from bridge.model.crm_objects import Fingerprint
from bridge.model.field_digests import digest_of
from bridge.model.plan import PlannedField
from bridge.model.write_policy import WritePolicy

LONG = "Called back: wants an offer"


def field(value: Any, separator: str = "\n") -> PlannedField:
    return PlannedField(value, WritePolicy.APPEND, separator)


@pytest.mark.parametrize(
    ("value", "separator", "held", "expected"),
    [
        ("b", "\n", "a", "a\nb"),
        ("b", " | ", "a", "a | b"),
        ("b", "\n", None, "b"),
        ("b", "\n", "", "b"),
        ("b", "\n", 0, "0\nb"),
        (5, "\n", 80.0, "80.0\n5"),
        (True, "\n", "a", "a\ntrue"),
        (["b"], "\n", ["a"], ["a", "b"]),
        (["a", "b"], "\n", ["b", "c"], ["b", "c", "a"]),
        (["a"], "\n", None, ["a"]),
        (["a"], "\n", "b", ["a"]),
    ],
)
def test_a_value_is_added_behind_what_is_there(value: Any, separator: str, held: Any, expected: Any) -> None:
    assert with_added(field(value, separator), held) == expected


# -- fingerprints ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "held", "expected"),
    [
        ("note", None, Fingerprint(0, 4, digest_of("note"))),
        ("note", "a", Fingerprint(0, 4, digest_of("note"))),
        ("note", "note", Fingerprint(1, 4, digest_of("note"))),
        ("note", "note\nx\nnote", Fingerprint(2, 4, digest_of("note"))),
        (" note ", None, Fingerprint(0, 4, digest_of("note"))),
        ("a\r\nb", None, Fingerprint(0, 3, digest_of("a\nb"))),
        (5, "5", Fingerprint(1, 1, digest_of("5"))),
        # Of a longer text also its letters, so many, and how often they stood there.
        (
            LONG,
            None,
            Fingerprint(0, 27, digest_of(LONG) + bytes.fromhex("161ef44f37ed3d9d0000001600000000")),
        ),
        (
            LONG,
            f"x {LONG}. {LONG.upper()}!",
            Fingerprint(0, 27, digest_of(LONG) + bytes.fromhex("161ef44f37ed3d9d0000001600000002")),
        ),
        (["b", "c"], ["b"], Fingerprint(-1, 2, digest_of("b") + digest_of("c"))),
    ],
)
def test_a_fingerprint_is_what_earlier_releases_wrote(value: Any, held: Any, expected: Fingerprint) -> None:
    assert fingerprint_of(field(value), held) == expected


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        (Fingerprint(0, 27, b"8 bytes.letters"), Fingerprint(0, 27, b"8 bytes.")),
        (Fingerprint(2, 27, b"8 bytes.letters"), Fingerprint(0, 27, b"8 bytes.")),
        (Fingerprint(-1, 2, b"8 bytes.8 bytes,"), Fingerprint(-1, 2, b"8 bytes.8 bytes,")),
    ],
)
def test_text_with_unknown_surroundings_is_known_by_its_exact_form(
    fingerprint: Fingerprint, expected: Fingerprint
) -> None:
    assert standing_anywhere(fingerprint) == expected


# -- what stands there later -------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "separator", "before", "now", "added"),
    [
        ("note", "\n", None, "note", True),
        ("note", "\n", None, None, False),
        ("note", "\n", "a", "a", False),
        ("note", "\n", "a", "a\nnote", True),
        ("note", "\n", "a", "note\na", True),
        ("note", "\n", "a", "a\nnote\nb", True),
        ("note", "\n", "note", "note", False),
        ("note", "\n", "note", "note\nnote", True),
        ("note", "\n", "note\nnote", "note\nnote", False),
        ("note", "\n", "a", "a\nnotes", False),
        ("note", "\n", "a", "a\nmy note", False),
        ("note", "\n", "a", "a note", False),
        ("note", "\n", "a", "a\nnot", False),
        ("note", " | ", "a", "a | note", True),
        ("note", " | ", "a", "a\nnote", False),
        ("note", "--", "a", "--note", True),
        ("note", "\n\n", "a", "a\n\n\nnote", True),
        (5, "\n", 80, "80\n5", True),
        # CRMs change line ends.
        ("a\nb", "\n", "x", "x\r\na\r\nb", True),
        ("a\r\nb", "\n", "x", "x\na\nb", True),
        ("a\rb", "\n", "x", "x\ra\rb", True),
        ("note", "\r\n", "x", "x\nnote", True),
        # They drop some characters, escape others, and add markup of their own.
        ("so 😀 glad", "\n", "x", "x\nso ? glad", True),
        ("so 😀 glad", "\n", "x", "x\nso  glad", True),
        ("so 😀 sad", "\n", "x", "x\nso ? glad", False),
        ("a & b", "\n", "x", "x\na &amp; b", True),
        ("a & b", "\n", "x", "x\na  b", True),
        ("a <b> c", "\n", "x", "x\na &lt;b&gt; c", True),
        ("a c", "\n", "x", "x\na<br> c", True),
        # A separator that is made of such characters stays what it is.
        ("note?", " ? ", "a", "a ? note?", True),
        ("note", "<br>", "a", "a<br>note", True),
        ("note", "<br>", "a", "anote", False),
    ],
)
def test_text_was_added_if_it_is_there_once_more_than_before(
    value: Any, separator: str, before: Any, now: Any, added: bool
) -> None:
    fingerprint = fingerprint_of(field(value, separator), before)
    assert was_added(fingerprint, separator, now) is added


def escaped(layers: int) -> str:
    return "interested " + "&" + "amp;" * layers + " waits"


@pytest.mark.parametrize(
    ("value", "before", "now", "added"),
    [
        # Case, spaces, punctuation, markup and separators are the CRM's; letters and digits are not.
        (LONG, "x", "x CALLED BACK wants  an-offer", True),
        (LONG, "x", "Called back wants an offer x", True),
        (LONG, None, "called_back wants an offer!", True),
        (LONG, "x", "<p>x</p><p>Called back:</p><p>wants an offer</p>", True),
        (LONG, "x", "xcalledbackwantsanoffery", True),
        (LONG, "x", "x\nＣａｌｌｅｄ back: wants an offer ", True),
        ("Größe: 80 Kilo, Fuß", "x", "x GRÖSSE 80 KILO FUSS", True),
        (LONG, "x", "x Called back wants an offe", False),
        (LONG, "x", "x Called back wants some offer", False),
        (LONG, "x", "", False),
        (LONG, "x", None, False),
        # A shorter text may stand in another one by chance.
        ("hotel 12", "x", "x: hotel 12!", False),
        ("hotel 123", "x", "x: hotel 123!", True),
        # Once more than before.
        (LONG, "Called back, wants an offer", "x Called back, wants an offer", False),
        (
            LONG,
            "Called back, wants an offer",
            "Called back, wants an offer. Called back, wants an offer",
            True,
        ),
        (LONG, "Called back, wants an offer", "calledbackwantsanoffercalledbackwantsanoffer", True),
        ("abababab", "abababab.", "ababababab.", False),
        ("abababab", "abababab.", "x abababab x abababab x", True),
        # So many layers of escapes are removed.
        (escaped(0), "x", "x, " + escaped(1), True),
        (escaped(0), "x", "x, " + escaped(5), True),
        (escaped(0), "x", "x, " + escaped(6), False),
    ],
)
def test_a_longer_text_is_recognised_by_its_letters(value: str, before: Any, now: Any, added: bool) -> None:
    fingerprint = fingerprint_of(field(value), before)
    assert was_added(fingerprint, "\n", now) is added
    # Where nobody knows what stood there before, letters count for nothing.
    assert was_added(standing_anywhere(fingerprint), "\n", now) is False


@pytest.mark.parametrize(
    ("now", "added"),
    [
        (["a", "b", "c"], True),
        (["c", "b"], True),
        (["a", "b"], False),
        (["a", "c"], False),
        ([], False),
        ("bc", False),
        (None, False),
    ],
)
def test_a_list_was_added_where_each_of_its_items_is_there(now: Any, added: bool) -> None:
    assert was_added(fingerprint_of(field(["b", "c"]), ["a"]), "\n", now) is added
