"""Authentication, compiled: what every request carries, and how its token is got."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bridge.crm.connector.compiling import Compiler, Names, Pick, Tree, Values
from bridge.crm.connector.outcome_rules import Rule, compile_rules
from bridge.crm.connector.request import BodyKind, Rendered, body_of, rendered_of
from bridge.crm.connector.schema import AuthSection, JwtSection, TokenSection
from bridge.lib.expression import as_text
from bridge.lib.toml_file import KeyPath

# What each of OAuth 2's grants sends beside the client (RFC 6749 and 7523).
_GRANTS: Mapping[str, Mapping[str, str]] = {
    "client_credentials": {},
    "refresh_token": {"refresh_token": "{{ token.refresh_token or secrets.refresh_token }}"},
    "password": {"username": "{{ secrets.username }}", "password": "{{ secrets.password }}"},
    "jwt_bearer": {"assertion": "{{ assertion }}"},
}
REFRESH_TOKEN = "refresh_token"  # noqa: S105 -- a name
_GRANT_TYPES = {"jwt_bearer": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
_CLIENT = {"client_id": "{{ secrets.client_id }}", "client_secret": "{{ secrets.client_secret }}"}
_BASIC = "Basic {{ (secrets.client_id ~ ':' ~ secrets.client_secret) | base64 }}"


@dataclass(frozen=True, slots=True)
class Assertion:
    """A JWT that is signed for each token."""

    section: JwtSection
    claims: Tree


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One exchange of secrets for a token."""

    section: TokenSection
    tree: Tree
    kind: BodyKind
    outputs: Mapping[str, Pick]
    expires_in: Pick | None
    rules: tuple[Rule, ...]
    assertion: Assertion | None

    @property
    def refresh_before(self) -> timedelta:
        """How long before its end a new token is got."""
        return self.section.refresh_before

    def render(self, names: Values) -> Rendered:
        """The exchange as a request."""
        return rendered_of(self.section.method, self.tree.fill(names), "url", self.kind)


@dataclass(frozen=True, slots=True)
class Auth:
    """What every request carries."""

    tokens: tuple[TokenRequest, ...]
    _parts: Tree
    _headers: Tree
    _secret: frozenset[str]
    """The names of what is made of secrets."""

    @property
    def rotates_refresh_token(self) -> bool:
        """Whether each exchange ends the refresh token that it was made with."""
        return any(REFRESH_TOKEN in token.outputs for token in self.tokens)

    def apply(self, rendered: Rendered, names: Values) -> None:
        """Add what authenticates a request; signatures see it as `request`, its body as `request.text`."""
        parts: dict[str, Any] = self._parts.fill(_seeing(self._parts, rendered, names))
        rendered.query = {**rendered.query, **parts["query"]}
        if parts["body"] and rendered.method != "GET":
            if rendered.kind == "none":
                rendered.kind, rendered.body = "json", {}
            if isinstance(rendered.body, dict):
                rendered.body = {**parts["body"], **rendered.body}
        headers = self._headers.fill(_seeing(self._headers, rendered, names))
        own = {name.lower() for name in rendered.headers}
        added = {name: as_text(value) for name, value in headers.items() if name.lower() not in own}
        rendered.headers = {**added, **rendered.headers}
        computed = [*added.items(), *parts["query"].items(), *parts["body"].items()]
        rendered.hidden = tuple(
            as_text(value).rpartition(" ")[2] for name, value in computed if name in self._secret
        )


def _seeing(tree: Tree, rendered: Rendered, names: Values) -> Values:
    """The names with the request among them, where a signature needs it: a batch's body is large."""
    if not tree.mentions("request"):
        return names
    seen = {
        "method": rendered.method,
        "path": rendered.path,
        "query": rendered.query,
        "body": rendered.body,
        "text": rendered.content().decode(),
    }
    return {**names, "request": seen}


def compile_auth(compiler: Compiler, section: AuthSection) -> Auth:
    """The `[auth]` of a connector."""
    place: KeyPath = ("auth",)
    request: Names = {"request": frozenset({"method", "path", "query", "body", "text"})}
    language = compiler.language(request)
    parts = {"query": section.query, "body": section.body}
    return Auth(
        tuple(_token(compiler, (*place, "token", number), each) for number, each in enumerate(section.token)),
        compiler.tree(language, place, parts),
        compiler.tree(language, (*place, "headers"), section.headers),
        frozenset(
            name
            for name, value in (*section.headers.items(), *section.query.items(), *section.body.items())
            if "secrets." in str(value) or "token." in str(value)
        ),
    )


def outputs_of(section: TokenSection) -> dict[str, str]:
    """What an exchange gives; a new refresh token is kept without being asked for."""
    if section.grant == "refresh_token":
        return {REFRESH_TOKEN: REFRESH_TOKEN, **section.outputs}
    return dict(section.outputs)


def _token(compiler: Compiler, place: KeyPath, section: TokenSection) -> TokenRequest:
    parts: dict[str, Any] = {"url": section.url, "query": section.query, "headers": section.headers}
    language = compiler.language({"assertion": None})
    kind, body = body_of(compiler, language, place, section)
    if section.grant is not None:
        form = section.form if isinstance(section.form, dict) else {}
        for other, given in (("json", section.json_), ("text", section.text)):
            if given is not None:
                message = "a grant's fields go into a form"
                compiler.problem((*place, other), message, "use form, or leave out grant")
        if isinstance(section.form, str):
            message = "goes beside a grant's fields, so it is a table"
            compiler.problem((*place, "form"), message, "write a table, or leave out grant")
        grant_type = _GRANT_TYPES.get(section.grant, section.grant)
        form = {"grant_type": grant_type, **_GRANTS[section.grant], **form}
        if section.grant != "jwt_bearer":
            if section.client_auth == "basic":
                parts["headers"] = {"Authorization": _BASIC, **section.headers}
            else:
                form = {**_CLIENT, **form}
        kind, body = "form", form
    if kind != "none":
        parts[kind] = body
    if section.grant == "jwt_bearer" and section.jwt is None:
        compiler.problem(place, "jwt_bearer needs to know what to sign", "add jwt = { claims = { … } }")
    return TokenRequest(
        section=section,
        tree=compiler.tree(language, place, parts, "url"),
        kind=kind,
        outputs={
            name: pick
            for name, text in outputs_of(section).items()
            if (pick := compiler.pick((*place, "outputs", name), text)) is not None
        },
        expires_in=compiler.pick((*place, "expires_in"), section.expires_in),
        rules=compile_rules(compiler, (*place, "outcomes"), section.outcomes),
        assertion=_assertion(compiler, (*place, "jwt"), section.jwt),
    )


def _assertion(compiler: Compiler, place: KeyPath, section: JwtSection | None) -> Assertion | None:
    if section is None:
        return None
    if not compiler.knows("secrets", section.key):
        compiler.problem((*place, "key"), f'there is no secret "{section.key}"', "declare it in secrets")
    return Assertion(section, compiler.tree(compiler.language({}), (*place, "claims"), section.claims))
