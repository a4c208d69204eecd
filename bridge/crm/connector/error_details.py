"""Takes out of an answer what went wrong: the CRM's code, the field, and the message. Begin at `Errors`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.crm.connector.answer import EMPTY_VALUES, Answer, first_held
from bridge.crm.connector.compiling import Compiler, Pick
from bridge.crm.connector.schema import ErrorsSection, InnerSection
from bridge.lib.expression import as_text
from bridge.lib.masking import LONGEST_MASKED

# A CRM may list one error for each field of a record: ten of them are enough for a person.
_MOST_INNER = 10


@dataclass(frozen=True, slots=True)
class Errors:
    """Where answers carry what went wrong; of several places the first that holds something counts."""

    message: Sequence[Pick] = ()
    code: Sequence[Pick] = ()
    field: Sequence[Pick] = ()
    inner: InnerSection | None = None

    def described(self, answer: Answer) -> tuple[str, str, str]:
        """Code, field and message of an answer; the message names the first ten errors inside the error."""
        code, field_, message = (_first(answer, picks) for picks in (self.code, self.field, self.message))
        inner = self._inner_errors(answer)
        if not inner:
            return code, field_, message
        sentences = [_inner_text(error) for error in inner]
        fields = ", ".join(dict.fromkeys(field for _, field, _ in inner if field))
        codes = ", ".join(dict.fromkeys(code for code, _, _ in inner if code))
        return code or codes, fields or field_, "; ".join([*([message] if message else []), *sentences])

    def _inner_errors(self, answer: Answer) -> list[tuple[str, str, str]]:
        """Code, field and message of each error in `[errors.inner]`'s list.

        A list of one, found by a dotted path, mostly repeats the error itself and is left out.
        """
        if self.inner is None:
            return []
        listed = first_held(answer.body, self.inner.list)
        if not isinstance(listed, list) or (len(listed) < 2 and "." in self.inner.list):
            return []
        places = (self.inner.code, self.inner.field, self.inner.message)
        errors = [
            [as_text(first_held(item, paths))[:LONGEST_MASKED] for paths in places]
            for item in listed[:_MOST_INNER]
        ]
        return [(code, field_, message) for code, field_, message in errors if code or message]


def compile_errors(compiler: Compiler, section: ErrorsSection) -> Errors:
    """Compile `[errors]`: paths into an answer, or expressions that find a part of a sentence."""

    def picked(name: str, texts: Sequence[str]) -> list[Pick]:
        picks = [compiler.pick(("errors", name, number), text) for number, text in enumerate(texts)]
        return [pick for pick in picks if pick is not None]

    if section.inner is not None:
        for name in ("list", "code", "field", "message"):
            for path in getattr(section.inner, name):
                compiler.path(("errors", "inner", name), path)
    return Errors(
        picked("message", section.message),
        picked("code", section.code),
        picked("field", section.field),
        section.inner,
    )


def _inner_text(error: tuple[str, str, str]) -> str:
    code, field_, message = error
    about = f" (field {field_})" if field_ else ""
    return f"{': '.join(part for part in (code, message) if part)}{about}"


def _first(answer: Answer, picks: Iterable[Pick]) -> str:
    for pick in picks:
        value = pick.of_answer(answer)
        if value not in EMPTY_VALUES:
            return as_text(value)
    return ""
