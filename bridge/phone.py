"""Phone numbers: to E.164, to a kind, and to a masked form for messages and logs."""

import re
from typing import Literal

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, ValidationResult

PhoneKind = Literal["mobile", "landline", "masked", "empty", "other"]

# 50 µs of library for what nearly every record holds; the tests hold this against the library.
_PLAIN_CN_MOBILE = re.compile(r"(?:\+86|0086|86|0)?(1[3-9][0-9]{9})")
_MASK = re.compile(r"[*•●○◦∙·×✱⁎∗…]|[?]{2,}|[xX]{2,}|#{2,}|_{2,}|-{3,}|\.{3,}")
# People say 转 for "extension"; the platform's numbers also carry it after one more dash.
_CN_EXTENSION = re.compile(r"\s*[(]?\s*(?:转|轉|分机|分機|内线|內線).*", re.DOTALL)
_CN_DASHED_EXTENSION = re.compile(
    r"((?:(?:\+|00)?86[- ]?)?(?:\(?0[0-9]{2,3}\)?[- ]?[0-9]{7,8}|1[3-9][0-9]{9}))-[0-9]{1,6}"
)
_CN_LOCAL_ONLY = re.compile(r"[2-9][0-9]{6,7}")
_CN_MOBILE = re.compile(r"1[3-9][0-9]{9}")
# Copying from a phone's contact list brings direction marks and the like along.
_INVISIBLE = dict.fromkeys(
    [0, 0xAD, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A)]
)
_PLAIN_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xA0: " "}
_CLEAN = _INVISIBLE | _PLAIN_WIDTH
_TOO_LONG_TO_PARSE = 80


def to_e164(value: object, country: str) -> str | None:
    """The number in E.164 if it is possible, valid or not; None for empty, masked and local-only ones."""
    text = _clean(value)
    if country == "CN" and (plain := _PLAIN_CN_MOBILE.fullmatch(text)):
        return f"+86{plain[1]}"
    number = _parsed(text, country)
    if number is None:
        return None
    form = phonenumbers.PhoneNumberFormat.E164
    written = phonenumbers.format_number(number, form)
    # What reads differently once it is written so (a row of zeros) would be no key.
    again = _parsed(written, country)
    return written if again is not None and phonenumbers.format_number(again, form) == written else None


def phone_kind(value: object, country: str) -> PhoneKind:
    """What sort of number this is; `other` is what is none of the rest, a text without a number too."""
    text = _clean(value)
    if not any(char.isalnum() or char in "*•●" for char in text):
        return "empty"
    if country == "CN" and _PLAIN_CN_MOBILE.fullmatch(text):
        return "mobile"
    if _MASK.search(text):
        return "masked"
    number = _parsed(text, country)
    return "other" if number is None else _kind(number)


def mask_phone(phone: str) -> str:
    """`158****0637`: the last four digits and the first three after a country code, at least four hidden."""
    text = phone.translate(_CLEAN).strip()
    if not text or (_MASK.search(text) and not _LONG_RUN.search(text)):
        return text
    digits = "".join(char for char in text if char.isdecimal())
    code = ""
    if text.startswith("+"):
        code = _country_code(digits)
        digits = digits[len(code) :]
        code = f"+{code}"
    return code + _masked_digits(digits)


def mask_phones_in(text: str) -> str:
    """`text` with everything masked that looks like a phone number; ids and times stay readable."""
    return _IN_TEXT.sub(_mask_match, text)


def _clean(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value) if isinstance(value, str) or abs(value) < 10**20 else ""
    return text.strip() if text.isascii() and "\0" not in text else text.translate(_CLEAN).strip()


def _parsed(text: str, country: str) -> PhoneNumber | None:
    """The possible number in `text`, or None; masks are looked for before the library drops them."""
    if not text or len(text) > _TOO_LONG_TO_PARSE or _MASK.search(text):
        return None
    text = _CN_EXTENSION.sub("", text)
    if dashed := _CN_DASHED_EXTENSION.fullmatch(text):
        text = dashed[1]
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return None if _is_local_only(number, text) else number


def _kind(number: PhoneNumber) -> PhoneKind:
    if number.country_code == 86 and _CN_MOBILE.fullmatch(str(number.national_number)):
        return "mobile"
    kind = phonenumbers.number_type(number)
    if kind == PhoneNumberType.MOBILE:
        return "mobile"
    return "landline" if kind == PhoneNumberType.FIXED_LINE else "other"


def _is_local_only(number: PhoneNumber, text: str) -> bool:
    # The library calls seven digits possible in China, for the sake of some service numbers.
    digits = "".join(char for char in text if char.isdecimal())
    return (
        number.country_code == 86
        and "+" not in text
        and _CN_LOCAL_ONLY.fullmatch(digits) is not None
        and not phonenumbers.is_valid_number(number)
    )


def _country_code(digits: str) -> str:
    for length in (1, 2, 3):
        if (
            digits[:length].isascii()
            and int(digits[:length] or 0) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
        ):
            return digits[:length]
    return ""


def _masked_digits(digits: str) -> str:
    if len(digits) < 8:
        return "****"
    return f"{digits[: min(3, len(digits) - 8)]}****{digits[-4:]}"


_DATE = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK = r"[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?"
_HEX = "[0-9A-Fa-f]"
_IN_TEXT = re.compile(
    rf"""(?P<keep>
        (?<!{_HEX}){_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}(?!{_HEX})     # a UUID
      | (?<!\d){_DATE}(?:{_CLOCK})?(?!\d)                                                     # a time
      | (?:account|projects|SYSUSER|dial_task_main_sn|talk_info_sn)\|[0-9A-Za-z]+             # a platform id
      | (?<![0-9A-Za-z])(?=[0-9]*[A-Fa-f]){_HEX}{{16,}}(?![0-9A-Za-z])                        # a hash
      | (?<![0-9A-Za-z])(?=[0-9]*[A-Fa-f])(?!{_HEX}*\d{{10}}){_HEX}{{7,15}}(?![0-9A-Za-z])    # a short hash
    )
    | (?P<phone> \+? [(]? \d (?: [ \-()\u2010-\u2015\u00a0\u3000]{{0,2}} \d ){{6,}} )
    """,
    re.VERBOSE,
)
_LONG_RUN = re.compile(r"\+?\d{7,}")


def _mask_match(match: re.Match[str]) -> str:
    if match["keep"] is not None:
        return match["keep"]
    phone = match["phone"]
    # Two numbers side by side match as one; each long run is then a number of its own.
    if _LONG_RUN.search(phone):
        return _LONG_RUN.sub(lambda run: mask_phone(run[0]), phone)
    return mask_phone(phone)
