"""Users, tokens and what they may do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.sandbox.hub.refused import bad_credentials, forbidden, repo_not_found
from agent.sandbox.hub.repos import Repo
from agent.sandbox.hub.scopes import PUSHES, READS, Scope, allow, allow_new
from agent.sandbox.loopback.refused import RefusedError

TokenRole = Literal["read", "write", "fineGrained"]
OrgRole = Literal["read", "contributor", "write", "admin"]
MADE = "2025-01-01T00:00:00.000Z"  # when a token was made, if nobody says


@dataclass
class User:
    """A person and the organizations they belong to."""

    name: str
    orgs: dict[str, OrgRole] = field(default_factory=dict)


@dataclass(frozen=True)
class Caller:
    """Who sent a request, and what their token is good for; `scopes` None: all that its user may."""

    user: User
    role: TokenRole
    scopes: tuple[Scope, ...] | None = None
    created_at: str = MADE


class Access:
    """Answers who is calling, and whether they may."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._tokens: dict[str, Caller] = {}

    def add(
        self,
        name: str,
        token: str,
        role: TokenRole,
        orgs: dict[str, OrgRole] | None,
        *,
        scopes: Sequence[Scope] | None = None,
        created_at: str = MADE,
    ) -> None:
        """Add a user, or one more token to a user; `orgs` are added to those known."""
        user = self._users.setdefault(name, User(name))
        user.orgs.update(orgs or {})
        self._tokens[token] = Caller(user, role, None if scopes is None else tuple(scopes), created_at)

    def caller(self, authorization: str | None) -> Caller | None:
        """Return the caller behind an Authorization header, None without one.

        Raises:
            RefusedError: 401 if the token is unknown.
        """
        if not authorization:
            return None
        known = self._tokens.get(_token(authorization))
        if known is None:
            raise bad_credentials()
        return known

    def name_of(self, authorization: str) -> str | None:
        """Return the name of the user behind an Authorization header, if there is one."""
        known = self._tokens.get(_token(authorization))
        return known.user.name if known else None

    @staticmethod
    def needs(caller: Caller | None) -> Caller:
        """Return the caller, or refuse (401) an anonymous one."""
        if caller is None:
            raise RefusedError(401, "Invalid username or password.")
        return caller

    def check_create(self, caller: Caller, namespace: str) -> None:
        """Refuse (403) a repository in a namespace the caller may not create in."""
        role = caller.user.orgs.get(namespace)
        may = namespace == caller.user.name or role in {"contributor", "write", "admin"}
        if caller.scopes is not None:
            may = may and allow_new(caller.scopes, namespace=namespace)
        if caller.role == "read" or not may:
            raise forbidden("You don't have the rights to create a model under this namespace")

    def check_read(self, caller: Caller | None, repo: Repo | None) -> Repo:
        """Return the repository if the caller may know of it, else say it does not exist."""
        if repo is None or (repo.private and not (caller and self._may_read(caller, repo))):
            raise repo_not_found(anonymous=caller is None)
        return repo

    def check_write(self, caller: Caller | None, repo: Repo | None) -> Repo:
        """Return the repository if the caller may change it.

        Raises:
            RefusedError: 401 or 404 if it may not be seen, 403 if it may not be changed.
        """
        readable = self.check_read(caller, repo)
        user = self.needs(caller).user
        if self.needs(caller).role == "read":
            raise forbidden("Forbidden: you must use a write token to upload to a repository.")
        role = user.orgs.get(readable.namespace)
        own = readable.namespace == user.name or (role == "contributor" and readable.creator == user.name)
        scopes = self.needs(caller).scopes
        granted = scopes is None or allow(scopes, PUSHES, repo_id=readable.id)
        if not granted or (not own and role not in {"write", "admin"}):
            raise forbidden("Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return readable

    @staticmethod
    def _may_read(caller: Caller, repo: Repo) -> bool:
        is_member = repo.namespace == caller.user.name or repo.namespace in caller.user.orgs
        granted = caller.scopes is None or allow(caller.scopes, READS | PUSHES, repo_id=repo.id)
        return is_member and granted


def _token(authorization: str) -> str:
    return authorization.removeprefix("Bearer ").strip()


def whoami(caller: Caller) -> dict[str, Any]:
    """Describe a caller as `GET /api/whoami-v2` does."""
    user = caller.user
    token: dict[str, Any] = {
        "displayName": f"{user.name}-{caller.role}",
        "role": caller.role,
        "createdAt": caller.created_at,
    }
    if caller.role == "fineGrained":
        scopes = caller.scopes
        if scopes is None:
            mine = [org for org, role in user.orgs.items() if role in {"write", "admin"}]
            scopes = (Scope("user", user.name), *(Scope("org", org) for org in mine))
        token["fineGrained"] = {
            "canReadGatedRepos": False,
            "global": [],
            "scoped": [scope.as_json() for scope in scopes],
        }
    return {
        "type": "user",
        "id": user.name,
        "name": user.name,
        "fullname": user.name.capitalize(),
        "email": f"{user.name}@example.com",
        "emailVerified": True,
        "isPro": False,
        "canPay": False,
        "orgs": [
            {"type": "org", "id": org, "name": org, "fullname": org, "isEnterprise": False, "roleInOrg": role}
            for org, role in user.orgs.items()
        ],
        "auth": {"type": "access_token", "accessToken": token},
    }
