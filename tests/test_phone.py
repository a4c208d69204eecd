"""Phone numbers: E.164, kinds and masks."""

import re
from uuid import UUID

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.phone import mask_phone, mask_phones_in, phone_kind, to_e164

mobiles = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)


@pytest.mark.parametrize(
    ("value", "e164", "kind"),
    [
        ("15899770637", "+8615899770637", "mobile"),
        ("015899770637", "+8615899770637", "mobile"),
        ("+8615899770637", "+8615899770637", "mobile"),
        ("008615899770637", "+8615899770637", "mobile"),
        ("8615899770637", "+8615899770637", "mobile"),
        ("+86 158-9977 0637", "+8615899770637", "mobile"),
        ("１５８９９７７０６３７", "+8615899770637", "mobile"),
        ("\u202d15899770637\u202c", "+8615899770637", "mobile"),
        (15899770637, "+8615899770637", "mobile"),
        (15899770637.0, "+8615899770637", "mobile"),
        ("15899770637x801", "+8615899770637", "mobile"),
        ("11111111111", "+8611111111111", "other"),
        ("0755-26001234", "+8675526001234", "landline"),
        ("(0755)26001234", "+8675526001234", "landline"),
        ("（010）2600 1234", "+861026001234", "landline"),
        ("0755-26001234-801", "+8675526001234", "landline"),
        ("010-26001234-8", "+861026001234", "landline"),
        ("0755 2600 1234 转 801", "+8675526001234", "landline"),
        ("0755-26001234 分机801", "+8675526001234", "landline"),
        ("0755-2600-1234", "+8675526001234", "landline"),
        (75526001234, "+8675526001234", "landline"),
        ("4008001234", "+864008001234", "other"),
        ("+1 650 253 0000", "+16502530000", "other"),
        ("26001234", None, "other"),
        ("2600123", None, "other"),
        ("12345", None, "other"),
        ("110", None, "other"),
        ("15899770637/13800138000", None, "other"),
        ("未知", None, "other"),
        ("1" * 500, None, "other"),
        ("158****0637", None, "masked"),
        ("158＊＊＊＊0637", None, "masked"),
        ("158••••0637", None, "masked"),
        ("158xxxx0637", None, "masked"),
        ("158XXXX0637", None, "masked"),
        ("1589977063*", None, "masked"),
        ("***********", None, "masked"),
        ("", None, "empty"),
        (" \u3000", None, "empty"),
        ("-", None, "empty"),
        (None, None, "empty"),
        (True, None, "empty"),
        ([15899770637], None, "empty"),
        (10**100, None, "empty"),
    ],
)
def test_e164_and_kind(value: object, e164: str | None, kind: str) -> None:
    assert to_e164(value, "CN") == e164
    assert phone_kind(value, "CN") == kind


def test_the_country_decides_what_a_bare_number_is() -> None:
    assert to_e164("650-253-0000", "US") == "+16502530000"
    assert to_e164("253-0000", "US") is None
    assert to_e164("07911 123456", "GB") == "+447911123456"
    assert phone_kind("07911 123456", "GB") == "mobile"
    assert to_e164("+8626001234", "CN") == "+8626001234"


@given(st.sampled_from(["", "0", "86", "+86", "0086"]), mobiles)
def test_the_fast_path_agrees_with_the_library(prefix: str, mobile: str) -> None:
    number = phonenumbers.parse(prefix + mobile, "CN")
    assert phonenumbers.is_possible_number(number)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    assert to_e164(prefix + mobile, "CN") == e164


@given(st.text("0123456789+-() 转x*#；\u202d０１", max_size=25))
def test_any_answer_is_a_possible_number_and_stays_itself(text: str) -> None:
    e164 = to_e164(text, "CN")
    if e164 is not None:
        assert phonenumbers.is_possible_number(phonenumbers.parse(e164))
        assert to_e164(e164, "CN") == e164
        assert "*" not in text


@pytest.mark.parametrize(
    ("phone", "masked"),
    [
        ("+8615899770637", "+86158****0637"),
        ("15899770637", "158****0637"),
        ("+86 158-9977-0637", "+86158****0637"),
        ("+16502530000", "+165****0000"),
        ("075526001234", "075****1234"),
        ("26001234", "****1234"),
        ("12345", "****"),
        ("158****0637", "158****0637"),
        ("?15899770637", "158****0637"),
        ("15899770637…", "158****0637"),
        ("", ""),
    ],
)
def test_mask(phone: str, masked: str) -> None:
    assert mask_phone(phone) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call 15899770637 failed", "call 158****0637 failed"),
        ("电话15899770637打不通", "电话158****0637打不通"),
        ("phone=+8615899770637,x", "phone=+86158****0637,x"),
        ("15899770637 13800138000", "158****0637 138****8000"),
        ("2025-04-14 15899770637", "2025-04-14 158****0637"),
        ("158 9977 0637", "158****0637"),
        ("+1 (650) 253-0000", "+165****0000"),
    ],
)
def test_mask_in_text(text: str, masked: str) -> None:
    assert mask_phones_in(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "db57f262-18d6-11f0-88c8-2f2b0aba51d7out",
        "12345678-1234-1234-1234-123456789012",
        "account|4216aedbab119baf899c6533e444605b",
        "account|42161198996533444605",
        "4216aedbab119baf899c6533e444605b",
        "commit 0a1234567",
        "2025-04-14T10:20:50",
        "2025-04-14 10:20:50",
        "2025-04-14T10:20:50.123456+08:00",
        "sn@2025-04-14T10:20:50Z",
        "1000 of 2000 in 12.5 s at 127.0.0.1:8480",
    ],
)
def test_ids_and_times_stay_readable(text: str) -> None:
    assert mask_phones_in(text) == text


@given(
    mobiles,
    st.sampled_from(["{}", "a{}b", "+86{}", "0{}", "电话{}。", "cafe {}", "x_{}_y", "{0} {0}", "[{}]"]),
)
def test_no_number_shows_in_text(mobile: str, template: str) -> None:
    assert mobile not in mask_phones_in(template.format(mobile))
    assert mobile[:8] not in mask_phones_in(template.format(mobile))


@given(st.uuids(), st.datetimes())
def test_uuids_and_moments_are_left_alone(uuid: UUID, moment: object) -> None:
    assert mask_phones_in(f"call {uuid}: gone") == f"call {uuid}: gone"
    text = str(moment)
    if re.match(r"(19|20)\d\d", text):
        assert mask_phones_in(f"at {text}, gone") == f"at {text}, gone"
