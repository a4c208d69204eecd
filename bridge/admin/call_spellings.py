"""How people name a call: by its uuid, a phone number or an sn, as they happen to write it."""

from collections.abc import Collection, Sequence

from bridge.lib.phone import to_e164


def spellings(words: Sequence[str], countries: Collection[str]) -> list[str]:
    """The texts that `InspectionLedger.list_calls` is asked for.

    Each word as it is, as a name (lower case), and as a phone number of each country.
    """
    numbers = (to_e164(word, country) for word in words for country in countries)
    return list(dict.fromkeys([*words, *(word.lower() for word in words), *(one for one in numbers if one)]))
