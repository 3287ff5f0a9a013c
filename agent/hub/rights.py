"""What a token of the Hub may do, as far as the Hub describes it, and whether it may do too much.

Sources: `GET /api/whoami-v2`; the roles of https://huggingface.co/docs/hub/security-tokens and
https://huggingface.co/docs/hub/organizations-security. A fine-grained token says what it may do, entity
by entity. A description is not a decision: of a repo that exists the Hub itself is asked, see survey.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent.errors import HubAuthError
from agent.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Mapping

ROTATE_AFTER = timedelta(days=90)
ENDS_SOON = timedelta(days=7)  # longer than nearly every training
_PUSHES, _CREATES = {"repo.write", "repo.content.write"}, {"repo.write"}
_WRITING_ROLES = {"admin", "write", "contributor"}
_RIGHTS = "token rights"


@dataclass(frozen=True)
class Scope:
    """Permissions of a fine-grained token on one entity: a repo, or everything in a namespace."""

    kind: str
    name: str
    permissions: frozenset[str]

    def is_namespace(self, name: str) -> bool:
        """Whether it is about everything in that namespace; the Hub's names differ by more than case."""
        return self.kind in {"user", "org"} and self.name.lower() == name.lower()

    def is_repo(self, repo_id: str) -> bool:
        """Whether it is about that model alone."""
        return self.kind == "model" and self.name.lower() == repo_id.lower()

    @property
    def pushes(self) -> bool:
        """Whether content may be written with it."""
        return bool(self.permissions & _PUSHES)


@dataclass(frozen=True)
class Token:
    """A token as the Hub describes it; None where it says nothing, or nothing that we understand."""

    user: str
    name: str
    role: str | None
    orgs: Mapping[str, str]
    scopes: tuple[Scope, ...]
    created: datetime | None
    expires: datetime | None

    @property
    def fine_grained(self) -> bool:
        """Whether it names what it may do."""
        return self.role == "fineGrained"


def read_token(me: object) -> Token:
    """Read the answer of whoami-v2.

    Raises:
        KeyError, TypeError: it is not one.
    """
    known = _mapping(me)
    auth = _mapping(known.get("auth"))
    access = _mapping(auth.get("accessToken"))
    scoped = _mapping(access.get("fineGrained")).get("scoped")
    return Token(
        user=str(known["name"]),
        name=str(access.get("displayName") or "unnamed"),
        role=access.get("role"),
        orgs={str(org["name"]): str(org.get("roleInOrg")) for org in map(_mapping, known.get("orgs") or ())},
        scopes=tuple(_scope(item) for item in map(_mapping, scoped or ())),
        created=_time(access.get("createdAt")),
        expires=_time(auth.get("expiresAt")),
    )


def may_write(token: Token, repo_id: str, *, exists: bool) -> Check:
    """Judge by the token's description whether it may publish to a repo that exists, or create it."""
    if token.role == "read":
        return Check.refused(
            _RIGHTS,
            HubAuthError(
                f"HF_TOKEN ({token.name}) is read-only.",
                hint=f"Make one that may write the contents of {repo_id} in the Hub's settings.",
            ),
        )
    if token.role not in {"write", "fineGrained"}:
        return Check.note(
            _RIGHTS,
            f"the Hub does not say what HF_TOKEN ({token.name}) may do",
            "Publish something small with it first, or use a fine-grained token.",
        )
    namespace = repo_id.partition("/")[0]
    if token.user.lower() != namespace.lower() and _role_in(token, namespace) not in _WRITING_ROLES:
        return _elsewhere(token, namespace)
    if token.fine_grained:
        return _by_scopes(token, repo_id, exists=exists)
    return Check.fine(_RIGHTS, f"{token.user} may {_what(exists=exists)} {repo_id}")


def age(token: Token, now: datetime) -> list[Check]:
    """Say whether it is time to make a new token; nothing where the Hub does not tell."""
    if token.expires and token.expires - now < ENDS_SOON:
        return [
            Check.note(
                "token age",
                f"HF_TOKEN expires at {token.expires:%Y-%m-%d %H:%M} UTC; a training that ends later is not "
                "published",
                "Use a token that outlives the training.",
            )
        ]
    if token.created is None:
        return []
    days = (now - token.created).days
    if now - token.created <= ROTATE_AFTER:
        return [Check.fine("token age", f"{days} days")]
    said = f"HF_TOKEN is {days} days old; after {ROTATE_AFTER.days} a token is due for a new one"
    return [Check.note("token age", said, "Rotate it in the Hub's settings, and set the new HF_TOKEN.")]


def breadth(token: Token, repo_id: str, *, exists: bool) -> list[Check]:
    """Say whether whoever finds this token could write more than this repo."""
    first = "Make" if exists else "Once the repo exists, make"
    cure = (
        f"{first} a fine-grained token, choose {repo_id} under 'Repositories permissions', tick write access "
        "to contents; nothing else is needed."
    )
    if token.role == "write":
        return [Check.note("token scope", f"HF_TOKEN may write everything that {token.user} may", cure)]
    if not token.fine_grained:
        return []
    namespace = repo_id.partition("/")[0]
    writable = [scope for scope in token.scopes if scope.pushes and not scope.is_repo(repo_id)]
    if not exists:  # no smaller scope lets it create the repo
        writable = [scope for scope in writable if not scope.is_namespace(namespace)]
    if not writable:
        return [Check.fine("token scope", f"fine-grained, for {repo_id if exists else namespace}")]
    named = ", ".join(f"all of {one.name}" if one.kind in {"user", "org"} else one.name for one in writable)
    return [Check.note("token scope", f"HF_TOKEN may also write {named}", cure)]


def _by_scopes(token: Token, repo_id: str, *, exists: bool) -> Check:
    namespace = repo_id.partition("/")[0]
    whole = {name for scope in token.scopes if scope.is_namespace(namespace) for name in scope.permissions}
    here = whole | {name for scope in token.scopes if scope.is_repo(repo_id) for name in scope.permissions}
    if (here if exists else whole) & (_PUSHES if exists else _CREATES):
        return Check.fine(_RIGHTS, f"{token.user} may {_what(exists=exists)} {repo_id}")
    if here & _PUSHES or any(one.kind == "resource-group" and one.pushes for one in token.scopes):
        return Check.note(
            _RIGHTS,
            f"whether HF_TOKEN ({token.name}) may {_what(exists=exists)} {repo_id} is only known by trying",
            f"Create the private model {repo_id} on the Hub, then run preflight again."
            if not exists
            else "Give it write access to the contents of this repo by name.",
        )
    place = repo_id if exists else f"everything in {namespace}, or create {repo_id} and give it that"
    return Check.refused(
        _RIGHTS,
        HubAuthError(
            f"HF_TOKEN ({token.name}) is fine-grained and may not {_what(exists=exists)} {repo_id}.",
            hint=f"Edit it in the Hub's settings: write access to the contents of {place}.",
        ),
    )


def _elsewhere(token: Token, namespace: str) -> Check:
    mine = [token.user, *(org for org, role in token.orgs.items() if role in _WRITING_ROLES)]
    role = _role_in(token, namespace)
    why = f"has the role {role} in {namespace}" if role else f"is no member of {namespace}"
    return Check.refused(
        _RIGHTS,
        HubAuthError(
            f"HF_TOKEN ({token.name}) belongs to {token.user}, who {why}.",
            hint=f"This token may write to: {', '.join(mine)}; set HF_REPO_NAME to one of these.",
        ),
    )


def _role_in(token: Token, namespace: str) -> str | None:
    return next((role for org, role in token.orgs.items() if org.lower() == namespace.lower()), None)


def _what(*, exists: bool) -> str:
    return "write to" if exists else "create"


def _scope(item: Mapping[str, Any]) -> Scope:
    entity = _mapping(item.get("entity"))
    permissions = frozenset(str(name) for name in item.get("permissions") or ())
    return Scope(str(entity.get("type")), str(entity.get("name") or entity.get("_id")), permissions)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
