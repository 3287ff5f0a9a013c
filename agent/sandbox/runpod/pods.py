"""The pods of an account, the keys to them, and what may be done to a pod in which state."""

import re
from dataclasses import dataclass, field
from typing import Literal

from agent.sandbox.loopback.refused import RefusedError

Status = Literal["PROVISIONING", "STARTING", "RUNNING", "EXITED", "ERROR", "TERMINATED"]
Right = Literal["read", "stop", "terminate"]
ALL_RIGHTS: tuple[Right, ...] = ("read", "stop", "terminate")
POD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_STOPPABLE = frozenset({"STARTING", "RUNNING", "ERROR"})


@dataclass
class Pod:
    """A pod; `stops` and `terminates` count the orders that had an effect.

    Attributes:
        lag: so many looks show the state before an order after it was carried out.
        remembered: whether a terminated pod is shown as such, not as one that never was.
    """

    id: str
    status: Status = "RUNNING"
    locked: bool = False
    lag: int = 0
    remembered: bool = False
    stops: int = field(default=0, init=False)
    terminates: int = field(default=0, init=False)
    _before: Status | None = field(default=None, init=False)

    def seen(self) -> Status:
        """The status as an API shows it now."""
        if self._before and self.lag > 0:
            self.lag -= 1
            return self._before
        return self.status

    def is_gone(self) -> bool:
        """Whether no API shows it any more."""
        shows_before = self._before is not None and self.lag > 0
        return self.status == "TERMINATED" and not self.remembered and not shows_before

    def stop(self) -> None:
        """Stop it.

        Raises:
            RefusedError: 409 if it is locked, or not running.
        """
        self._unlocked()
        if self.status not in _STOPPABLE:
            raise RefusedError(409, f"Pod is {self.status} and cannot be stopped")
        self._before, self.status = self.status, "EXITED"
        self.stops += 1

    def terminate(self) -> None:
        """Destroy it.

        Raises:
            RefusedError: 409 if it is locked, or was terminated before.
        """
        self._unlocked()
        if self.status == "TERMINATED":
            raise RefusedError(409, "Pod is TERMINATED")
        self._before, self.status = self.status, "TERMINATED"
        self.terminates += 1

    def resume(self) -> None:
        """Start a stopped pod again; the counts go on."""
        self._before, self.status = None, "RUNNING"

    def _unlocked(self) -> None:
        if self.locked:
            raise RefusedError(409, "Pod is locked. Unlock it first.")


@dataclass(frozen=True)
class Key:
    """What a key may do, and to which pods; None is every pod of the account."""

    rights: frozenset[str]
    pods: frozenset[str] | None


class Account:
    """Pods and keys.

    Attributes:
        catastrophes: requests whose address or input named no pod where one belongs, so that the real
            service might have taken them for all of them.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.catastrophes: list[str] = []
        self._keys: dict[str, Key] = {}

    def add_pod(self, pod_id: str, status: Status = "RUNNING", *, locked: bool = False) -> Pod:
        """Add a pod and return it."""
        self.pods[pod_id] = Pod(pod_id, status, locked)
        return self.pods[pod_id]

    def add_key(self, key: str, *rights: Right, pods: tuple[str, ...] | None = None) -> None:
        """Add a key; without rights it has all, without `pods` it is the account's."""
        self._keys[key] = Key(frozenset(rights or ALL_RIGHTS), None if pods is None else frozenset(pods))

    def key(self, authorization: str) -> Key:
        """The key in an Authorization header.

        Raises:
            RefusedError: 401 if there is none, or it is unknown.
        """
        scheme, _, secret = authorization.partition(" ")
        if scheme != "Bearer" or secret not in self._keys:
            raise RefusedError(401, "Unauthorized: the API key is missing or invalid")
        return self._keys[secret]

    def pod(self, key: Key, right: Right, pod_id: object, asked: str) -> Pod:
        """The pod, for a key that has this right to it.

        Raises:
            RefusedError: 400 without a proper id, 403 without the right, 404 if the key knows no such pod.
        """
        if not isinstance(pod_id, str) or not POD_ID.fullmatch(pod_id):
            self.catastrophes.append(asked)
            raise RefusedError(400, f"Invalid pod id {pod_id!r}")
        if right not in key.rights:
            raise RefusedError(403, f"This API key has no permission to {right} the pod")
        pod = self.pods.get(pod_id)
        if pod is None or (key.pods is not None and pod_id not in key.pods):
            raise RefusedError(404, "pod not found")
        return pod
