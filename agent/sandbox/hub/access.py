"""Users, tokens and what they may do."""

from dataclasses import dataclass, field
from typing import Any, Literal

from agent.sandbox.hub.refused import bad_credentials, forbidden, repo_not_found
from agent.sandbox.hub.repos import Repo
from agent.sandbox.loopback.refused import RefusedError

TokenRole = Literal["read", "write", "fineGrained"]
OrgRole = Literal["read", "contributor", "write", "admin"]


@dataclass
class User:
    """A person and the organizations they belong to."""

    name: str
    orgs: dict[str, OrgRole] = field(default_factory=dict)


@dataclass(frozen=True)
class Caller:
    """Who sent a request, and what their token is good for."""

    user: User
    role: TokenRole


class Access:
    """Answers who is calling, and whether they may."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._tokens: dict[str, Caller] = {}

    def add(self, name: str, token: str, role: TokenRole, orgs: dict[str, OrgRole] | None) -> None:
        """Add a user, or one more token to a user; `orgs` are added to those known."""
        user = self._users.setdefault(name, User(name))
        user.orgs.update(orgs or {})
        self._tokens[token] = Caller(user, role)

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
        if caller.role == "read" or not (
            namespace == caller.user.name or role in {"contributor", "write", "admin"}
        ):
            raise forbidden("You don't have the rights to create a model under this namespace")

    def check_read(self, caller: Caller | None, repo: Repo | None) -> Repo:
        """Return the repository if the caller may know of it, else say it does not exist."""
        if repo is None or (repo.private and not (caller and self._is_member(caller.user, repo))):
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
        if not own and role not in {"write", "admin"}:
            raise forbidden("Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return readable

    @staticmethod
    def _is_member(user: User, repo: Repo) -> bool:
        return repo.namespace == user.name or repo.namespace in user.orgs


def _token(authorization: str) -> str:
    return authorization.removeprefix("Bearer ").strip()


def whoami(caller: Caller) -> dict[str, Any]:
    """Describe a caller as `GET /api/whoami-v2` does."""
    user = caller.user
    token: dict[str, Any] = {
        "displayName": f"{user.name}-{caller.role}",
        "role": caller.role,
        "createdAt": "2025-01-01T00:00:00.000Z",
    }
    if caller.role == "fineGrained":
        rights = ["repo.content.read", "repo.write"]
        entities = [{"type": "user", "name": user.name}]
        entities += [
            {"type": "org", "name": org} for org, role in user.orgs.items() if role in {"write", "admin"}
        ]
        token["fineGrained"] = {
            "canReadGatedRepos": False,
            "global": [],
            "scoped": [
                {"entity": {"_id": entity["name"], **entity}, "permissions": rights} for entity in entities
            ],
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
