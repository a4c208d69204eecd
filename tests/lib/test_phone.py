"""Phone numbers: E.164, kinds and masks."""

import re
import time
from uuid import UUID

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.phone import mask_phone, mask_phones_in, phone_kind, to_e164

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
        ("15899770637/13800138000", "+8615899770637", "mobile"),
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
def test_numbers_have_an_e164_form_and_a_kind(value: object, e164: str | None, kind: str) -> None:
    assert to_e164(value, "CN") == e164
    assert phone_kind(value, "CN") == kind


@pytest.mark.parametrize(
    "value",
    [
        "13800138000.0",
        "13800138000.00",
        "+8613800138000.0",
        "1.3800138E10",
        "1.3800138000E+10",
        13800138000.0,
        "13,800,138,000",
        "'13800138000",
        '="13800138000"',
        "1 3 8 0 0 1 3 8 0 0 0",
        "138.0013.8000",
        "138\u20110013\u22128000",
        "1\ufe0f\u20e33\ufe0f\u20e38\ufe0f\u20e300138000",
        "١٣٨٠٠١٣٨٠٠٠",
        "１３８００１３８０００．０",
        "(+86)13800138000",
        "（+86）138 0013 8000",
        "+86 013800138000",
        "+86(0)13800138000",
        "0086 0138 0013 8000",
        "+86+8613800138000",
        "tel:+86-138-0013-8000",
        "TEL 13800138000",
        "tel13800138000",
        "tel:13800138000;phone-context=+86",
        "sip:13800138000@10.0.0.1:5060",
        "1795113800138000",
        "13800138000 ext. 801",
        "13800138000--801",
        "138-0013-8000-801",
        "08613800138000",
        "086-138 0013 8000",
        "+0086 138 0013 8000",
        "+086 13800138000",
        "+(86)13800138000",
        "13800138000x801",
        "13800138000#801",
        "13800138000,801",
        "13800138000(内线801)",
        "13800138000轉801",
        "13800138000 801",
        "13800138000 张三",
        "张三13800138000",
        "13800138000张三",
        "13800138000（张三）",
        "13800138000 Zhang San",
        "Tom 13800138000",
        "13800138000 王**",
        "📞13800138000",
        "13800138000\ufffd",
        "13800138000/13900139000",
        "13800138000,13900139000",
        "13800138000，13900139000",
        "13800138000、13900139000",
        "13800138000;13900139000",
        "13800138000|13900139000",
        "13800138000 13900139000",
        "13800138000\t13900139000",
        "13800138000\n13900139000",
        "13800138000或13900139000",
        "+86 138 0013 8000 +86 139 0013 9000",
        "本人13800138000 母亲13900139000",
        "26001234 13800138000",
        "13800138OOO/13800138000",
        "2025-04-14 10:20:50 13800138000",
        "13800138000 2025/04/14 10:20",
        "0000-00-00 13800138000",
        "2025-04-14 13800138000",
        "13800138000 " + "很长的备注" * 100,
    ],
)
def test_first_number_counts_whatever_surrounds_it(value: object) -> None:
    assert to_e164(value, "CN") == "+8613800138000"
    assert phone_kind(value, "CN") == "mobile"


@pytest.mark.parametrize(
    ("country", "value", "e164"),
    [
        # A slash behind the area, behind a country's code too.
        ("CN", "+49 30/1234567", "+49301234567"),
        ("DE", "0049 (0)30 / 123 45 67", "+49301234567"),
        ("AT", "+43 1 / 234 56 78", "+4312345678"),
        # What stands behind a country's code is no number of another country's.
        ("MX", "+52 1 55 1234 5678", "+525512345678"),
        ("CN", "5215512345678", "+525512345678"),
        ("CN", "+33 6 12 34 56 78 9", "+33612345678"),
        ("MX", "+52 99 55 1234 56789", None),
        ("CN", "+999 13800138000", "+8613800138000"),
        # A zero is the trunk's, two lead abroad, in Hong Kong too, where one dials 001.
        ("MX", "044 55 1234 5678", "+525512345678"),
        ("GB", "044 7700 900123", None),
        ("HK", "0086 138 0013 8000", "+8613800138000"),
        ("SG", "0060 12-345 6789", "+60123456789"),
        ("US", "0044 20 7946 0958", "+442079460958"),
    ],
)
def test_country_code_applies_to_all_digits_after_it(country: str, value: str, e164: str | None) -> None:
    assert to_e164(value, country) == e164


@pytest.mark.parametrize(
    "value",
    [
        "13800138OOO",
        "2099-01-01 00:00:00",
        "2025/4/14 10:20",
        "2025.04.14T10:20:50.123",
        "0000-00-00 00:00:00",
        "0000-00-00",
        "00000000000",
        "+86 000 0000 0000",
        "1380013800O",
        "l3800138000",
        "13800138 OOO",
        "13800138-OOO",
        "138-0013-8ooo",
        "1380013800О",  # the Cyrillic letter
        "13800138abc",
        "abc13800138000",
        "13800138000abc",
        "1-800-FLOWERS",
        "1380013800①",
        "1380013800〇",
        "1380013800\ufffd",
        "1380013800?",
        "1380013800x",
        "1.38E+10",
        "1.38001E+11",
        "13800138000.5",
        13800138000.5,
        "26001234/26001235",
        "1380013800013900139000",
        "张三",
        "王" * 150 + "1" * 49 + "13800138000",
    ],
)
def test_letters_rounded_or_local_numbers_are_no_phone(value: object) -> None:
    assert to_e164(value, "CN") is None
    assert phone_kind(value, "CN") in {"other", "empty"}


@pytest.mark.parametrize("mask", ["*", "x", "X", "?", "#", "_", "-", ".", "＊", "●", "×", "—", "□", "～"])
def test_a_hidden_phone_is_masked_whichever_digits_are_hidden(mask: str) -> None:
    for hidden in (f"138{mask * 4}0637", f"1389977{mask * 4}", f"138{mask * 6}37", f"139 {mask * 4} 0637"):
        assert to_e164(hidden, "CN") is None
        assert phone_kind(hidden, "CN") == "masked"


@pytest.mark.parametrize(
    ("value", "country", "e164"),
    [
        ("85291234567", "CN", "+85291234567"),
        (85291234567, "CN", "+85291234567"),
        ("852 9123 4567", "CN", "+85291234567"),
        ("0085291234567", "CN", "+85291234567"),
        ("85366123456", "CN", "+85366123456"),
        ("886912345678", "CN", "+886912345678"),
        ("447911123456", "CN", "+447911123456"),
        ("6591234567", "CN", "+6591234567"),
        ("79161234567", "CN", "+8679161234567"),  # a number of Nanchang
        ("12012345678", "CN", "+8612012345678"),  # a mobile of a range to come
        ("085291234567", "CN", "+8685291234567"),  # dialled with a trunk 0, so at home
        ("50021234", "CN", None),
        ("85291234567", "SG", "+85291234567"),
        ("85291234567", "US", "+85291234567"),
        ("85291234567", "GB", "+85291234567"),
        ("85291234567", "DE", "+85291234567"),
        ("85291234567", "HK", "+85291234567"),
        ("8613800138000", "US", "+8613800138000"),
        ("8613800138000", "GB", "+8613800138000"),
        ("8613800138000", "HK", "+8613800138000"),
        ("008613800138000", "US", "+8613800138000"),
        ("659-023-4567", "US", "+16590234567"),
        ("06 1234 5678", "IT", "+390612345678"),
        ("+39 06 1234 5678", "CN", "+390612345678"),
        ("030/1234567", "DE", "+49301234567"),
        ("+49 (0)30 1234567", "DE", "+49301234567"),
        ("030 12345 OO", "DE", None),
        ("0207 946 0018", "GB", "+442079460018"),
        ("9123 4567", "SG", "+6591234567"),
        ("91234567.0", "SG", "+6591234567"),
        ("91234567 / 91234568", "HK", "+85291234567"),
        ("9123****", "HK", None),
        ("650.253.0000 x12", "US", "+16502530000"),
        ("650-253-0000-12", "US", "+16502530000"),
        ("030-1234567-12", "DE", "+49301234567"),
        ("650 253 0000, 650 253 0001", "US", "+16502530000"),
        ("650 253 OOOO", "US", None),
        ("1-800-FLOWERS", "US", None),
    ],
)
def test_home_country_is_tried_before_the_numbers_own(value: object, country: str, e164: str) -> None:
    assert to_e164(value, country) == e164


@pytest.mark.parametrize("behind", ["", " 张三", "/13900139000", "、13900139000", "\n13900139000"])
def test_every_countrys_numbers_are_read_in_the_librarys_formats(behind: str) -> None:
    formats = (0, 1, 2, 3)  # E.164, international, national, as a URI
    for region in ("CN", "HK", "TW", "SG", "MY", "JP", "US", "GB", "DE", "IT", "FR", "AR", "MX", "AU", "RU"):
        number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        assert number is not None
        for form in formats:
            text = phonenumbers.format_number(number, form) + behind
            assert to_e164(text, region) == phonenumbers.format_number(number, 0)


@pytest.mark.parametrize("unit", ["1", "1 ", "x", "*", "a*", "1/", "(1", "8529123456 ", "1.0", "王1"])
def test_reading_time_grows_linearly_with_the_text(unit: str) -> None:
    def cost(length: int) -> float:
        text, costs = unit * (length // len(unit)), []
        for _ in range(5):
            begun = time.process_time()
            to_e164(text, "CN")
            phone_kind(text, "CN")
            costs.append(time.process_time() - begun)
        return min(costs)

    assert cost(16_000) <= 3 * cost(8_000) + 0.002


def test_bare_number_is_read_in_the_given_country() -> None:
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
def test_any_result_is_a_possible_number_and_reads_as_itself(text: str) -> None:
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
def test_mask_phone_hides_the_middle_digits(phone: str, masked: str) -> None:
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
        ("call 06.12.34.56.78 failed", "call 06****5678 failed"),
        ("138.0013.8000", "138****8000"),
        ("138/0013/8000, 212.555.1234", "138****8000, 21****1234"),
        ("+33.6.12.34.56.78", "+336****5678"),
        ("138\t0013\t8000", "138****8000"),
    ],
)
def test_phones_in_a_text_are_masked(text: str, masked: str) -> None:
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
        "10.20.30.40:8480, 192.168.100.200/24, 2025/04/14, 14.04.2025, 2025.04.14, 0.123, v2025.11.29.10",
    ],
)
def test_ids_and_times_are_not_masked(text: str) -> None:
    assert mask_phones_in(text) == text


@given(
    mobiles,
    st.sampled_from(["{}", "a{}b", "+86{}", "0{}", "电话{}。", "cafe {}", "x_{}_y", "{0} {0}", "[{}]"]),
)
def test_no_phone_stays_readable_in_any_text(mobile: str, template: str) -> None:
    assert mobile not in mask_phones_in(template.format(mobile))
    assert mobile[:8] not in mask_phones_in(template.format(mobile))


@given(st.uuids(), st.datetimes())
def test_any_uuid_or_moment_is_not_masked(uuid: UUID, moment: object) -> None:
    assert mask_phones_in(f"call {uuid}: gone") == f"call {uuid}: gone"
    text = str(moment)
    if re.match(r"(19|20)\d\d", text):
        assert mask_phones_in(f"at {text}, gone") == f"at {text}, gone"
