"""Lines of keys: each key that tomllib finds has one, and it is the right one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lib.errors import ConfigError
from bridge.lib.toml_file import KeyPath, TomlFile, load_toml

SAMPLE = '''# a comment with [brackets] = "and quotes
top = 1
"quoted key" = "a # no comment"
a.b . "c.d" = 1979-05-27 07:32:00

[server] # comment
listen = "127.0.0.1:1"
text = """
[not.a.table]
key = 1
"quotes"""""
literal = \'\'\'
x = 1 \'\'\'\'
list = [
  "a", # ]
  { name = "one", deep = { er = 2 } },
  [1, 2],
]
after = true

[[rules]]
name = "first"
[rules.sub]
x = 1
[[rules.more]]
y = 1
[[rules]]
name = "second"
[[rules.more]]
y = 2
[[rules.more]]
y = 3

[late.child]
z = 0
[late]
w = 0
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("quoted key",), 3),
        (("a", "b", "c.d"), 4),
        (("server",), 6),
        (("server", "listen"), 7),
        (("server", "literal"), 12),
        (("server", "list", 0), 15),
        (("server", "list", 1, "deep", "er"), 16),
        (("server", "list", 2, 1), 17),
        (("server", "after"), 19),
        (("rules",), 21),
        (("rules", 0, "sub", "x"), 24),
        (("rules", 0, "more", 0, "y"), 26),
        (("rules", 1), 27),
        (("rules", 1, "more", 1, "y"), 32),
        (("late",), 36),
        (("late", "child", "z"), 35),
        (("server", "missing", "deeper"), 6),
        (("missing",), None),
        ((), None),
    ],
)
def test_key_has_its_line_number(path: KeyPath, line: int | None) -> None:
    assert TomlFile(Path("x.toml"), SAMPLE).line(path) == line


def paths(node: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from paths(value, (*at, key))


KEYS = st.text("ab-_Z09", min_size=1, max_size=4) | st.text("a .#=\"[]{}'äя", max_size=4)
SCALARS = (
    st.integers(-99, 99).map(str)
    | st.booleans().map(lambda value: str(value).lower())
    | st.sampled_from(["1979-05-27 07:32:00", "1979-05-27", "07:32:00", "-inf", "1e3", "'''\n[a]\n''''"])
    | st.text("a\"'\\#[]{}=,\n é").map(lambda text: json.dumps(text, ensure_ascii=False))
    | st.text("a'#[]{}=,\n é").map(lambda text: f'"""{text}"""')
    | st.text('a"#[]{}=, é').map(lambda text: f"'{text}'")
)


def written(key: str) -> str:
    bare = key and all(char in "ab-_Z09" for char in key)
    return key if bare else json.dumps(key, ensure_ascii=False)


def inline(value: Any, newline: str) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{written(key)} = {inline(one, '')}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        inner = "".join(f"{inline(one, newline)},{newline}" for one in value)
        return f"[{newline}{inner.rstrip(',') if not newline else inner}]"
    return str(value)


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)
# A document: tables, arrays of tables with sub-tables, and inline values of any shape.
DOCUMENTS = st.dictionaries(KEYS, TABLES | st.lists(st.tuples(TABLES, TABLES), max_size=3), max_size=4)


def document(shape: dict[str, Any], newline: str) -> str:
    lines: list[str] = []

    def pairs(table: dict[str, Any]) -> None:
        lines.extend(f"{written(key)} = {inline(value, newline)} # end" for key, value in table.items())

    for name, content in shape.items():
        if isinstance(content, dict):
            lines.append(f"[ {written(name)} ]")
            pairs(content)
            continue
        for table, sub in content:
            lines.append(f"[[{written(name)}]]  # [x]")
            pairs({key: value for key, value in table.items() if key != "sub"})
            lines.append(f"[{written(name)} . sub]")
            pairs(sub)
    return "\n".join(lines)


@given(DOCUMENTS, st.sampled_from(["", "\n", " # ] }\n  "]))
def test_every_key_of_any_document_has_its_line_number(shape: dict[str, Any], newline: str) -> None:
    text = document(shape, newline)
    file = TomlFile(Path("x.toml"), text)
    found = set(paths(file.data))
    assert file.keys == found
    lines = text.split("\n")
    for path in found:
        line = file.line(path)
        assert line is not None
        if isinstance(path[-1], str):
            assert written(path[-1]) in lines[line - 1] or f" . {path[-1]}]" in lines[line - 1]


@pytest.mark.parametrize(
    ("raw", "line", "message"),
    [
        (b"a = 1\nb = \n", 2, "is no valid TOML: Invalid value"),
        (b"a = 1\na = 2\n", 2, "is no valid TOML: Cannot overwrite a value"),
        (b"[a]\nx = [1,\n", 2, "is no valid TOML"),
        (b"a = 1\nb = '\xc4\xe3'\n", 2, "is not UTF-8"),
        (b"a = " + b"[" * 100_000, None, "is nested too deeply"),
        (b"a = " + b"1" * 5000, None, "is no valid TOML"),
    ],
)
def test_syntax_error_in_a_file_is_a_problem(
    tmp_path: Path, raw: bytes, line: int | None, message: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_toml(path)
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == (str(path), line)
    assert problem.message.startswith(message)


def test_missing_or_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.toml", "there is no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=message):
            load_toml(path)


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n[b]\r\nc = '''\r\n\r\n'''\r\nd = 2\r\n")
    assert load_toml(path).line(("b", "d")) == 6
