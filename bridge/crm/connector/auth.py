"""Compiled authentication: what every request carries, and the requests that get a token.

Begin at `Auth.credentials()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from bridge.crm.connector.compiling import Compiler, Names, Pick, Tree, Values
from bridge.crm.connector.outcome_rules import Rule, compile_rules
from bridge.crm.connector.request import BodyKind, Rendered, body_of, rendered_of
from bridge.crm.connector.schema import AuthSection, Grant, JwtSection, TokenSection
from bridge.lib.expression import as_text
from bridge.lib.toml_file import KeyPath

# What each grant of OAuth 2 sends beside client id and secret (RFC 6749, RFC 7523).
FIELDS_OF_GRANTS: Mapping[Grant, Mapping[str, str]] = {
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
    """The JWT that is signed anew for each token request."""

    section: JwtSection
    claims: Tree


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The request that exchanges secrets for a token."""

    section: TokenSection
    tree: Tree
    kind: BodyKind
    outputs: Mapping[str, Pick]
    expires_in: Pick | None
    rules: tuple[Rule, ...]
    assertion: Assertion | None

    @property
    def refresh_before(self) -> timedelta:
        """How long before a token ends a new one is asked for."""
        return self.section.refresh_before

    def render(self, names: Values) -> Rendered:
        """Fill in the names and return the request.

        Raises:
            ExpressionError: an expression fails on these names, or gives no address.
        """
        return rendered_of(self.section.method, self.tree.fill(names), "url", self.kind)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What authenticates a request: parts to be added to it."""

    query: Mapping[str, Any]
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    hidden: tuple[str, ...]
    """Those values that were made of secrets."""

    def add_to(self, rendered: Rendered) -> None:
        """Add them to a request; a header or body key of its own stays."""
        if self.query:
            rendered.query = {**rendered.query, **self.query}
        if self.body and rendered.method != "GET":
            if rendered.kind == "none":
                rendered.kind, rendered.body = "json", {}
            if isinstance(rendered.body, dict):
                rendered.body = {**self.body, **rendered.body}
        own = {name.lower() for name in rendered.headers}
        added = {name: value for name, value in self.headers.items() if name.lower() not in own}
        rendered.headers = {**added, **rendered.headers}
        rendered.hidden = self.hidden


@dataclass(frozen=True, slots=True)
class Auth:
    """Adds to every request what authenticates it."""

    tokens: tuple[TokenRequest, ...]
    _parts: Tree
    _headers: Tree
    _secret: frozenset[str]
    """Names of headers and parameters that secrets or tokens go into."""

    @property
    def rotates_refresh_token(self) -> bool:
        """Whether each token request ends the refresh token that it was made with."""
        return any(REFRESH_TOKEN in token.outputs for token in self.tokens)

    @property
    def is_of_each_request(self) -> bool:
        """Whether the credentials differ from request to request: a signature, a time, a random number."""
        return any(tree.mentions("request") or tree.varies for tree in (self._parts, self._headers))

    def credentials(self, rendered: Rendered, names: Values) -> Credentials:
        """The credentials for a request that has none yet.

        Expressions of the headers see the request with the other parts added, as `request`, so that they can
        sign it; `request.text` is its body.

        Raises:
            ExpressionError: an expression fails on these names.
        """
        parts: dict[str, Any] = self._parts.fill(_with_request(self._parts, rendered, names))
        query, body = parts["query"], parts["body"]
        if self._headers.mentions("request"):
            rendered = replace(rendered)
            Credentials(query, {}, body, ()).add_to(rendered)
        filled = self._headers.fill(_with_request(self._headers, rendered, names))
        headers = {name: as_text(value) for name, value in filled.items()}
        computed = [*headers.items(), *query.items(), *body.items()]
        hidden = [as_text(value).rpartition(" ")[2] for name, value in computed if name in self._secret]
        return Credentials(query, headers, body, tuple(hidden))


def _with_request(tree: Tree, rendered: Rendered, names: Values) -> Values:
    """The names, and `request` where an expression uses it: writing a batch's body once more is dear."""
    if not tree.mentions("request"):
        return names
    request = {
        "method": rendered.method,
        "path": rendered.path,
        "query": rendered.query,
        "body": rendered.body,
        "text": rendered.content().decode(),
    }
    return {**names, "request": request}


def compile_auth(compiler: Compiler, section: AuthSection) -> Auth:
    """Compile `[auth]`."""
    key_path: KeyPath = ("auth",)
    request: Names = {"request": frozenset({"method", "path", "query", "body", "text"})}
    language = compiler.language(request)
    parts = {"query": section.query, "body": section.body}
    return Auth(
        tuple(
            _token(compiler, (*key_path, "token", number), token)
            for number, token in enumerate(section.token)
        ),
        compiler.tree(language, key_path, parts),
        compiler.tree(language, (*key_path, "headers"), section.headers),
        frozenset(
            name
            for name, value in (*section.headers.items(), *section.query.items(), *section.body.items())
            if "secrets." in str(value) or "token." in str(value)
        ),
    )


def outputs_of(section: TokenSection) -> dict[str, str]:
    """Output → where the answer carries it; a refresh grant also keeps the new refresh token."""
    if section.grant == "refresh_token":
        return {REFRESH_TOKEN: REFRESH_TOKEN, **section.outputs}
    return dict(section.outputs)


def _token(compiler: Compiler, key_path: KeyPath, section: TokenSection) -> TokenRequest:
    parts: dict[str, Any] = {"url": section.url, "query": section.query, "headers": section.headers}
    language = compiler.language({"assertion": None})
    kind, body = body_of(compiler, language, key_path, section)
    if section.grant is not None:
        form = section.form if isinstance(section.form, dict) else {}
        for other, given in (("json", section.json_), ("text", section.text)):
            if given is not None:
                message = "a grant's fields go into a form"
                compiler.problem((*key_path, other), message, "use form, or leave out grant")
        if isinstance(section.form, str):
            message = "goes beside a grant's fields, so it is a table"
            compiler.problem((*key_path, "form"), message, "write a table, or leave out grant")
        grant_type = _GRANT_TYPES.get(section.grant, section.grant)
        form = {"grant_type": grant_type, **FIELDS_OF_GRANTS[section.grant], **form}
        if section.grant != "jwt_bearer":
            if section.client_auth == "basic":
                parts["headers"] = {"Authorization": _BASIC, **section.headers}
            else:
                form = {**_CLIENT, **form}
        kind, body = "form", form
    if kind != "none":
        parts[kind] = body
    if section.grant == "jwt_bearer" and section.jwt is None:
        compiler.problem(key_path, "jwt_bearer needs to know what to sign", "add jwt = { claims = { … } }")
    return TokenRequest(
        section=section,
        tree=compiler.tree(language, key_path, parts, "url"),
        kind=kind,
        outputs={
            name: pick
            for name, text in outputs_of(section).items()
            if (pick := compiler.pick((*key_path, "outputs", name), text)) is not None
        },
        expires_in=compiler.pick((*key_path, "expires_in"), section.expires_in),
        rules=compile_rules(compiler, (*key_path, "outcomes"), section.outcomes),
        assertion=_assertion(compiler, (*key_path, "jwt"), section.jwt),
    )


def _assertion(compiler: Compiler, key_path: KeyPath, section: JwtSection | None) -> Assertion | None:
    if section is None:
        return None
    if not compiler.knows("secrets", section.key):
        compiler.problem((*key_path, "key"), f'there is no secret "{section.key}"', "declare it in secrets")
    return Assertion(section, compiler.tree(compiler.language({}), (*key_path, "claims"), section.claims))
