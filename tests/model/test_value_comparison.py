"""Values beside what CRMs show: which are the same, which is greater, and what cannot be told."""

from typing import Any

import pytest

from bridge.model.crm_alterations import (
    Alteration,
    alteration,
    is_greater,
    same,
    unordered_shape,
    unreadable_shape,
)


@pytest.mark.parametrize(
    ("shown", "sent", "equal"),
    [
        (80, 80, True),
        ("80", 80, True),
        (80, "80", True),
        ("80.0", 80, False),
        ("true", True, True),
        (None, "", True),
        ([], None, True),
        ("", {}, True),
        ("", 0, False),
        (0, None, False),
        ("None", None, False),
        (None, "null", False),
    ],
)
def test_values_are_the_same_whatever_their_type(shown: Any, sent: Any, equal: bool) -> None:
    assert same(shown, sent) is equal


NO_NUMBER, A_NUMBER = "a text that is no number", "a number"


@pytest.mark.parametrize(
    ("value", "held", "greater", "shape"),
    [
        # As numbers, however they are written.
        (7, 5, True, ""),
        (5, 5, False, ""),
        (5, 7, False, ""),
        (10, "9", True, ""),
        ("1,000", 999, True, ""),
        ("1,000,000.5", "1000000", True, ""),
        ("1e3", 999, True, ""),
        (" 7 ", "5", True, ""),
        (".5", 0, True, ""),
        ("-1", "-2", True, ""),
        ("9007199254740993", 9007199254740992, True, ""),
        ("1" + "0" * 999, 5, True, ""),
        (True, 0, True, ""),
        (2, True, True, ""),
        (0, False, False, ""),
        # As moments.
        ("2026-11-22T08:00:01Z", "2026-11-22T08:00:00Z", True, ""),
        ("2026-11-22T08:00:00Z", "2026-11-22T09:00:00+02:00", True, ""),
        ("2026-11-22T08:00:00.9Z", "2026-11-22T08:00:00Z", False, ""),
        ("2026-11-22 08:00:00", "2026-11-22T08:00:00Z", False, ""),
        ("2026-11-22", 1700000000, True, ""),
        ("2026-11-22", 1700000000000, True, ""),
        (1700000000, "2026-11-22", False, ""),
        ("2026-11-22", 10**9, False, A_NUMBER),
        ("2026-11-22", 10**9 + 1, True, ""),
        ("1970-01-02", 10**11, False, A_NUMBER),
        ("1970-01-02", 10**11 - 1, False, ""),
        # As texts.
        ("b", "a", True, ""),
        ("a", "b", False, ""),
        ("a", "a", False, ""),
        # A number and a text have no order; nor has a number that is longer than any.
        (5, "a", False, NO_NUMBER),
        ("a", 5, False, A_NUMBER),
        ("a", "5", False, A_NUMBER),
        ("1,00", 5, False, A_NUMBER),
        ("1" + "0" * 1000, 5, False, A_NUMBER),
        (5, "5 %", False, NO_NUMBER),
        # What is empty is less than all else.
        (5, None, True, ""),
        (0, "", True, ""),
        ("a", [], True, ""),
        (None, 5, False, A_NUMBER),
        ("", None, False, ""),
        # Of lists and tables nobody asks for an order.
        (5, ["a"], False, ""),
        ({"a": 1}, 5, False, ""),
    ],
)
def test_which_value_is_greater(value: Any, held: Any, greater: bool, shape: str) -> None:
    assert is_greater(value, held) is greater
    assert unordered_shape(value, held) == shape


@pytest.mark.parametrize(
    ("sent", "shown", "kind"),
    [
        # A number that was rounded by less than one, or by less than a millionth.
        ("10.4", "10", Alteration.NUMBER),
        ("10.9", "10", Alteration.NUMBER),
        ("11", "10", Alteration.REPLACED),
        ("10000000", "10000009", Alteration.NUMBER),
        ("10000000", "10000010", Alteration.REPLACED),
        ("80", "80.00", Alteration.FORM),
        ("1000", "1,000", Alteration.FORM),
        # A phone number without its country, or with one.
        ("+86 158-9977-0637", "15899770637", Alteration.NUMBER),
        ("015899770637", "+49 15899770637", Alteration.NUMBER),
        ("+8615899770637", "+8615899770638", Alteration.REPLACED),
        ("+49 123-456", "123456", Alteration.REPLACED),
        ("+49 123-4567", "1234567", Alteration.NUMBER),
        ("+4915899770637", "call 15899770637", Alteration.REPLACED),
    ],
)
def test_a_number_that_a_crm_wrote_in_its_own_way(sent: Any, shown: Any, kind: Alteration | None) -> None:
    assert alteration(sent, shown) is kind


@pytest.mark.parametrize(
    ("sent", "shown", "kind"),
    [
        (0, None, Alteration.FORM),
        (False, "", Alteration.FORM),
        (1, None, Alteration.EMPTIED),
        ("0", "", Alteration.EMPTIED),
        (None, "a", Alteration.REPLACED),
        (None, "", None),
        ("yes", "yes", None),
        (True, "1", Alteration.FORM),
        (True, "on", Alteration.FORM),
        (True, "y", Alteration.FORM),
        (False, "off", Alteration.FORM),
        (False, "n", Alteration.FORM),
        (True, "no", Alteration.REPLACED),
    ],
)
def test_a_flag_or_nothing_in_another_form(sent: Any, shown: Any, kind: Alteration | None) -> None:
    assert alteration(sent, shown) is kind


@pytest.mark.parametrize(
    ("value", "held", "fits"),
    [
        (True, False, True),
        (None, False, True),
        ("true", True, True),
        ("FALSE", False, True),
        ("0", True, True),
        (1, False, True),
        ("yes", False, False),
        (5, True, False),
        ("a", False, False),
    ],
)
def test_a_flag_can_be_read_beside_a_flag_alone(value: Any, held: bool, fits: bool) -> None:
    assert unreadable_shape(value, held, only_presence=False) == ("" if fits else "true or false")
