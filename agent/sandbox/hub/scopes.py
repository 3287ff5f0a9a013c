"""Fine-grained tokens: what each may do, entity by entity (https://huggingface.co/docs/hub/security-tokens)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

EntityType = Literal["user", "org", "model", "dataset", "space", "resource-group"]

READS = frozenset({"repo.content.read"})
PUSHES = frozenset({"repo.write", "repo.content.write"})
CREATES = frozenset({"repo.write"})


@dataclass(frozen=True)
class Scope:
    """Permissions on one entity: a repository, or all of a user's or an organization's."""

    entity: EntityType
    name: str
    permissions: tuple[str, ...] = ("repo.content.read", "repo.write")

    def as_json(self) -> dict[str, Any]:
        """Describe it as `whoami-v2` does."""
        entity = {"_id": self.name, "type": self.entity, "name": self.name}
        return {"entity": entity, "permissions": list(self.permissions)}

    def is_namespace(self, name: str) -> bool:
        """Whether it is about everything in that namespace."""
        return self.entity in {"user", "org"} and self.name == name

    def covers(self, repo_id: str) -> bool:
        """Whether it is about that model."""
        is_model = self.entity == "model" and self.name == repo_id
        return is_model or self.is_namespace(repo_id.partition("/")[0])


def allow(scopes: Iterable[Scope], permissions: frozenset[str], *, repo_id: str) -> bool:
    """Whether one of the permissions is granted on that model."""
    return any(permissions.intersection(scope.permissions) for scope in scopes if scope.covers(repo_id))


def allow_new(scopes: Iterable[Scope], *, namespace: str) -> bool:
    """Whether models may be created in the namespace: only a permission on all of it allows that."""
    return any(CREATES.intersection(scope.permissions) for scope in scopes if scope.is_namespace(namespace))
