"""Phone numbers: to E.164, to a kind, and to a masked form for messages and logs.

Read is what a person would dial who sees the text: the first number in it, without what stands
around it. Letters make no number, and what is hidden is not guessed.
"""

import re
import unicodedata
from typing import Literal

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, ValidationResult

PhoneKind = Literal["mobile", "landline", "masked", "empty", "other"]
_Around = Literal["plain", "doubtful", "letters"]

# 50 µs of library for what nearly every record holds; the tests hold this against the library.
_PLAIN_CN_MOBILE = re.compile(r"(?:\+86|0086|86|0)?(1[3-9][0-9]{9})")
_MASK = re.compile(
    r"[*•●○◦∙·×✱⁎∗…■□▪▫◆◇★☆※◎✕✖╳]|[?]{2,}|[xX](?:[ -]?[xX])+|#{2,}|_{2,}|~{2,}|[-‐-―−]{3,}|\.{3,}"
)
# 王** behind a number is a person whose name is hidden; 尾号**** before digits is not.
_MASKED_NAME = re.compile(r"(?<=[^\W\d_])[*]{1,3}(?=\s|$)")
_CN_DASHED_EXTENSION = re.compile(
    r"((?:(?:\+|00)?86[- ]?)?(?:\(?0[0-9]{2,3}\)?[- ]?[0-9]{7,8}|1[3-9][0-9]{9}))-[0-9]{1,6}"
)
_DASHED_EXTENSION = re.compile(r"([^\n]{8,40})[-.]{1,3}[0-9]{1,6}")
_CN_LOCAL_ONLY = re.compile(r"[2-9][0-9]{6,7}")
_CN_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_CN_BARE = re.compile(r"1[0-9]{10}|[48]00[0-9]{7}")
"""What is written at home without a trunk 0: mobiles, also of ranges to come, and service numbers."""
# Copying from a phone's contact list brings direction marks and the like along.
_INVISIBLE = dict.fromkeys(
    [0, 0xAD, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A)]
)
_PLAIN_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xA0: " "}
_CLEAN = _INVISIBLE | _PLAIN_WIDTH
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63], "-")
_SPACES = dict.fromkeys([9, *range(0x2000, 0x200B), 0x202F, 0x205F], " ")
# A digit in a box is a digit, a selector of its form and the box.
_READABLE = _CLEAN | _DASHES | _SPACES | {0xFE0F: None, 0x20E3: None}

_LONGEST_TEXT = 200
_MOST_DIGITS = 20
_MOST_GROUPS = 6
"""So many rows of digits between spaces are tried one by one: at most 36 readings of 0.1 ms."""
_SHORTEST_DOTTED = 8
_SHORTEST_ABROAD = 10
"""With the country's code; local numbers of seven and eight digits would all be valid somewhere."""

_RUN = re.compile(r"(?:[+(]{1,2} ?)?[0-9](?:[ .()-]{0,3}[0-9])*")
# The digits of an area before a slash: 030/1234567 is one number, 26001234/26001235 are two.
_AREA_SLASH = re.compile(
    r"(?<![0-9])([(]?0[0-9]{1,4}[)]?|(?:\+|00)[0-9]{1,3}[ -]{0,2}(?:\(0\))?[ -]{0,2}[(]?[0-9]{1,5}[)]?)"
    r" ?/ ?(?=[0-9])"
)
# The 1 behind Mexico's code was dialled for mobiles until 2019; messengers still write it.
_OLD_MEXICAN = re.compile(r"521([2-9][0-9]{9})")
# A day and its clock are no number, and not the beginning of one.
_MOMENT = re.compile(
    r"(?<![0-9+-])(?:(?:19|20)[0-9]{2}|0000)([-/.])(?:1[0-2]|0?[0-9])\1(?:3[01]|[12][0-9]|0?[0-9])"
    r"(?:[ T]{0,2}[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?(?![0-9-])"
)
# 13800138000.0 is a number that went through a program that knows decimals only.
_ZERO_FRACTION = re.compile(r"(?<![0-9.])([0-9]{7,20})\.0{1,2}(?![0-9.])")
_FRACTION = re.compile(r"[+-]?[0-9]{9,20}\.[0-9]{1,20}")
# Fewer decimals are what a spreadsheet rounds to, and somebody else's number.
_SCIENTIFIC = re.compile(r"[+]?([0-9])\.([0-9]{6,17})[eE][+]?([0-9]{1,2})")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3}){3,4}")
_LABEL = re.compile(r"(?:^|[^A-Za-z])(?:tel|telephone|phone|mobile|mob|cell|call|fax|no)[.]?$", re.IGNORECASE)
_EXTENSION = re.compile(
    r"[ ,;.(-]{0,3}(?:转|轉|分机|分機|内线|內線|доб|ext(?:ension|n)?(?![a-z])|(?:anexo|ramal|int)(?![a-z])"
    r"|(?P<letter>xt?n?)(?=[.: ]{0,2}[0-9]))",
    re.IGNORECASE,
)
# A zero or a one that somebody typed as a letter, and so no name.
_LOOKALIKES = frozenset("OoIlQОоΟο")
_EAST_ASIAN = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_BETWEEN = " .()-"


def to_e164(value: object, country: str) -> str | None:
    """The number in E.164 if it is possible, valid or not; None for empty, masked and local-only ones."""
    text = plain_number(value)
    if country == "CN" and (plain := _PLAIN_CN_MOBILE.fullmatch(text)):
        return f"+86{plain[1]}"
    number = _first(text, country)
    if number is None:
        return None
    form = phonenumbers.PhoneNumberFormat.E164
    written = phonenumbers.format_number(number, form)
    # What reads differently once it is written so (a row of zeros) would be no key.
    again = _read(written, country)
    return written if again is not None and phonenumbers.format_number(again, form) == written else None


def phone_kind(value: object, country: str) -> PhoneKind:
    """What sort of number this is; `other` is what is none of the rest, a text without a number too."""
    text = plain_number(value)
    if not any(char.isalnum() or char in "*•●" for char in text):
        return "empty"
    if country == "CN" and _PLAIN_CN_MOBILE.fullmatch(text):
        return "mobile"
    if _is_masked(text):
        return "masked"
    number = _first(text, country)
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


def of_crm(identity: str) -> str:
    """An id of a CRM as messages name it: it may look like a phone number, and is shown all the same."""
    return f"crm_id={identity}" if _OF_CRM.fullmatch(f"crm_id={identity}") else identity


def plain_number(value: object) -> str:
    """The text as it came, but for a number that a program wrote as a decimal: `13800138000.0`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_MOST_DIGITS else ""
    text = value.strip() if value.isascii() and "\0" not in value else value.translate(_CLEAN).strip()
    if text.isdecimal() or len(text) > 2 * _MOST_DIGITS:
        return text
    if whole := _ZERO_FRACTION.fullmatch(text.removeprefix("+")):
        return text[: text.startswith("+")] + whole[1]
    if found := _SCIENTIFIC.fullmatch(text):
        digits, places = found[1] + found[2].rstrip("0"), int(found[3]) + 1
        return digits.ljust(places, "0") if len(digits) <= places <= _MOST_DIGITS else text
    return text


def _is_masked(text: str) -> bool:
    return _MASK.search(_MASKED_NAME.sub("", text) if "*" in text else text) is not None


def _first(text: str, country: str) -> PhoneNumber | None:
    """The first number in `text`; masks are looked for before anything is read."""
    if not text or _is_masked(text) or _FRACTION.fullmatch(text):
        return None
    text = _readable(text)
    for run in _RUN.finditer(text):
        around = _around(text, run)
        if around == "letters":
            continue
        number = _of_run(run[0], country)
        if number is not None and (around == "plain" or _is_sure(number)):
            return number
    return None


def _readable(text: str) -> str:
    """The beginning of a text in plain digits, dashes and spaces, without a number cut in two."""
    text = text.translate(_READABLE) if not text.isascii() or "\t" in text else text
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT].rstrip("0123456789" + _BETWEEN)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "")
    return _AREA_SLASH.sub(r"\1 ", _ZERO_FRACTION.sub(r"\1", _MOMENT.sub(";", text)))


def _around(text: str, run: re.Match[str]) -> _Around:
    """Whether what touches a row of digits lets it be a number."""
    return max(_before(text[: run.start()], run[0]), _behind(text[run.end() :]), key=_WORST.index)


_WORST: tuple[_Around, ...] = ("plain", "doubtful", "letters")


def _before(text: str, run: str) -> _Around:
    if not text or run.startswith("+") or _LABEL.search(text[-12:]):
        return "plain"
    near = text.rstrip(_BETWEEN)
    return _neighbour(near[::-1], touches=len(near) == len(text))


def _behind(text: str) -> _Around:
    if found := _EXTENSION.match(text):
        return "doubtful" if found["letter"] else "plain"
    near = text.lstrip(_BETWEEN)
    return _neighbour(near, touches=len(near) == len(text))


def _neighbour(text: str, *, touches: bool) -> _Around:
    """What the text says that stands next to a row of digits, its nearest character first."""
    if not text:
        return "plain"
    char = text[0]
    if touches and (char in "〇零" or unicodedata.category(char) == "No"):
        return "letters"
    if char.isalpha() and not any(low <= ord(char) <= high for low, high in _EAST_ASIAN):
        word = text[: next((at for at, each in enumerate(text) if not each.isalpha()), len(text))]
        return "letters" if touches or _LOOKALIKES.issuperset(word) else "doubtful"
    odd = char in "?_#~一二三四五六七八九" or unicodedata.category(char)[0] in "SC"
    return "doubtful" if touches and odd and char != "\n" else "plain"


def _of_run(run: str, country: str) -> PhoneNumber | None:
    """The number that a row of digits is, or else that it begins with, or that follows what is none."""
    groups = run.replace("(", " (").split()
    whole = _read(run, country)
    if len(groups) == 1 or (whole is not None and _is_sure(whole)):
        return whole
    has_code = run.startswith("+")
    for start in range(min(len(groups), _MOST_GROUPS)):
        # What follows a country's code is not read without it, unless it is a number in one piece.
        if start and has_code and len(groups[start]) <= _SHORTEST_ABROAD:
            continue
        alone = _read(groups[start], country)
        if alone is not None and _is_sure(alone):
            return alone
        if start == 0 and whole is not None:
            return whole
        most = start + (1 if start and has_code else _MOST_GROUPS)
        for end in range(min(len(groups), most), start + 1, -1):
            piece = _read(" ".join(groups[start:end]), country)
            if piece is not None and _is_sure(piece):
                return piece
        if alone is not None:
            return alone
    return None


def _read(text: str, country: str) -> PhoneNumber | None:
    """The possible number that `text` is as a whole, at home or else with its own country's code."""
    digits = "".join(filter(str.isdecimal, text))
    if len(digits) > _MOST_DIGITS:
        return None
    number = _of_digits(text, digits, country)
    if number is None or not _is_sure(number):
        dashed = _DASHED_EXTENSION.fullmatch(text)
        without = dashed and _of_digits(dashed[1], "".join(filter(str.isdecimal, dashed[1])), country)
        if without and _is_sure(without):
            return without
    return number


def _of_digits(text: str, digits: str, country: str) -> PhoneNumber | None:
    """The number of these digits; `text` says whether a country's code is among them."""
    if dashed := _CN_DASHED_EXTENSION.fullmatch(text):
        text, digits = dashed[1], "".join(filter(str.isdecimal, dashed[1]))
    plus = "+" if "+" in text else ""
    if plus:
        # +0086 and +086 are 86: no country's code begins with 0.
        digits = digits.lstrip("0")
        digits = _without_mexican_1(digits)
    number = _parsed(plus + digits, country)
    if number is None or plus or _is_sure(number) or _is_home(number, digits, country):
        return number or (None if plus else _abroad(digits, country))
    return _abroad(digits, country) or number


def _parsed(text: str, country: str) -> PhoneNumber | None:
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return None if _is_local_only(number, text) or not number.national_number else number


def _is_home(number: PhoneNumber, digits: str, country: str) -> bool:
    """Whether a number that is not valid is at least of a form that is dialled at home."""
    if digits.startswith("0"):
        # 00 leads abroad wherever people write for foreigners, also where one dials 001 or 011.
        return not digits.startswith("00")
    if number.country_code == 86:
        return _CN_BARE.fullmatch(digits) is not None
    if phonenumbers.ndd_prefix_for_region(country, True) == "0":
        return False
    kinds = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)
    return any(phonenumbers.is_possible_number_for_type(number, kind) for kind in kinds)


def _abroad(digits: str, country: str) -> PhoneNumber | None:
    """The number with its own country's code in front, where that is valid."""
    code = _without_mexican_1(digits.lstrip("0"))
    if len(code) < _SHORTEST_ABROAD:
        return None
    number = _parsed(f"+{code}", "ZZ")
    if number is None or not phonenumbers.is_valid_number(number):
        return None
    # One zero leads out of no country: 044 55 1234 5678 is no number of 44, the United Kingdom.
    is_home = number.country_code == phonenumbers.country_code_for_region(country)
    return number if is_home or not digits.startswith("0") or digits.startswith("00") else None


def _without_mexican_1(digits: str) -> str:
    return _OLD_MEXICAN.sub(r"52\1", digits) if len(digits) == 13 else digits


def _is_sure(number: PhoneNumber) -> bool:
    return _is_cn_mobile(number) or phonenumbers.is_valid_number(number)


def _is_cn_mobile(number: PhoneNumber) -> bool:
    return number.country_code == 86 and _CN_MOBILE.fullmatch(str(number.national_number)) is not None


def _kind(number: PhoneNumber) -> PhoneKind:
    if _is_cn_mobile(number):
        return "mobile"
    kind = phonenumbers.number_type(number)
    if kind == PhoneNumberType.MOBILE:
        return "mobile"
    return "landline" if kind == PhoneNumberType.FIXED_LINE else "other"


def _is_local_only(number: PhoneNumber, digits: str) -> bool:
    # The library calls seven digits possible in China, for the sake of some service numbers.
    return (
        number.country_code == 86
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
      | (?<!\w)crm_id=[\w.:-]{{1,64}}(?![\w.:-])                                             # a CRM's id
      | (?<!\w)crm_id=[\w.:-]{{1,64}}(?![\w.:-])                                             # a CRM's id
      | (?<![0-9A-Za-z])(?=[0-9]*[A-Fa-f]){_HEX}{{16,}}(?![0-9A-Za-z])                        # a hash
      | (?<![0-9A-Za-z])(?=[0-9]*[A-Fa-f])(?!{_HEX}*\d{{10}}){_HEX}{{7,15}}(?![0-9A-Za-z])    # a short hash
    )
    | (?P<phone> \+? [(]? \d (?: [ \t\-()\u2010-\u2015\u00a0\u3000]{{0,2}} \d ){{6,}} )
    # 06.12.34.56.78 and 138/0013/8000, and no date or address
    | (?P<dotted> (?<![\w./])
        (?:\+\d{{1,3}}[./ ])? [(]?\d{{1,4}}[)]? (?:[./]\d{{2,4}}){{2,5}} (?![\w]) )
    """,
    re.VERBOSE,
)
# Networks and dates.
_NO_DOTTED_PHONE = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?|\d{4}[./]\d\d?[./]\d\d?|\d\d?[./]\d\d?[./]\d{4}"
)
_OF_CRM = re.compile(r"crm_id=[\w.:-]{1,64}")
_LONG_RUN = re.compile(r"\+?\d{7,}")


def _mask_match(match: re.Match[str]) -> str:
    if match["keep"] is not None:
        return match["keep"]
    if match["dotted"] is not None:
        dotted = match["dotted"]
        short = sum(map(str.isdecimal, dotted)) < _SHORTEST_DOTTED
        return dotted if short or _NO_DOTTED_PHONE.fullmatch(dotted) else mask_phone(dotted)
    phone = match["phone"]
    # Two numbers side by side match as one; each long run is then a number of its own.
    if _LONG_RUN.search(phone):
        return _LONG_RUN.sub(lambda run: mask_phone(run[0]), phone)
    return mask_phone(phone)
