"""The ways to end a pod: what each is sent, and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol

from agent.pod.line import Answer, Line, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable

Action = Literal["stop", "terminate"]
Kind = Literal["seen", "ended", "accepted", "gone", "absent", "conflict", "busy", "unknown", "refused"]

OVER = frozenset({"EXITED", "TERMINATED"})
_KINDS: dict[int, Kind] = {
    HTTPStatus.NOT_FOUND: "absent",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_TIMEOUT: "unknown",
    HTTPStatus.TOO_MANY_REQUESTS: "busy",
}


@dataclass(frozen=True)
class Apis:
    """Where RunPod's APIs are."""

    v2: str
    graphql: str
    v1: str


@dataclass(frozen=True)
class Reply:
    """What one request came to, in the server's own words.

    seen      the pod: its `status`, and whether it is `locked`
    ended     the order was carried out, said in so many words
    accepted  the order was taken
    gone      there is no such pod to end, said in so many words
    absent    404: no such pod for this key, or no such address any more
    conflict  not in the state the pod is in
    busy      too many requests; nothing was done
    unknown   no whole answer, or the server failed: it may have acted
    refused   no, and asking again changes nothing
    """

    kind: Kind
    words: str
    status: str | None = None
    locked: bool = False
    retry_after_s: float | None = None

    @property
    def over(self) -> bool:
        """Whether this says that the pod runs no more."""
        return self.kind == "ended" or self.status in OVER


class Rung(Protocol):
    """One way to end a pod."""

    name: str

    def end(self, pod_id: str, action: Action, key: str) -> Reply:
        """Give the order once; `unknown` if the answer was lost."""


class Api(Rung, Protocol):
    """A way that also shows the pod."""

    def look(self, pod_id: str, key: str) -> Reply:
        """Ask for the pod once."""


class Rest:
    """RunPod's REST API, v2 or v1.

    Args:
        name: for people.
        base: its address, with the version.
        line: what the requests go over.
        field: where its pods carry their status.
        order: method, what follows the pod's address, and body of an order.
    """

    def __init__(
        self, name: str, base: str, line: Line, *, field: str, order: Callable[[Action], tuple[str, str, Any]]
    ) -> None:
        self.name, self._base, self._line, self._field, self._order = name, base, line, field, order

    def look(self, pod_id: str, key: str) -> Reply:
        """GET the pod."""
        answer = self._send("GET", pod_id, key)
        return answer if isinstance(answer, Reply) else _pod(answer, answer.document, pod_id, self._field)

    def end(self, pod_id: str, action: Action, key: str) -> Reply:
        """Order it; the answer may show the pod, or nothing."""
        method, path, document = self._order(action)
        answer = self._send(method, pod_id, key, path=path, document=document)
        if isinstance(answer, Reply):
            return answer
        pod = _pod(answer, answer.document, pod_id, self._field)
        return pod if pod.kind == "seen" else Reply("accepted", f"answered {answer.words}")

    def _send(
        self, method: str, pod_id: str, key: str, *, path: str = "", document: object = None
    ) -> Answer | Reply:
        return _ask(self._line, method, f"{self._base}/pods/{pod_id}{path}", key, document)


def v2(base: str, line: Line) -> Rest:
    """The REST API that has one address for all actions."""
    return Rest(
        "REST v2", base, line, field="status", order=lambda action: ("POST", "/action", {"action": action})
    )


def v1(base: str, line: Line) -> Rest:
    """The REST API before it."""
    orders = {"stop": ("POST", "/stop", None), "terminate": ("DELETE", "", None)}
    return Rest("REST v1", base, line, field="desiredStatus", order=orders.__getitem__)


_LOOK = "query($podId:String!){pod(input:{podId:$podId}){id desiredStatus}}"
_ORDERS = {
    "stop": "mutation($podId:String!){podStop(input:{podId:$podId}){id desiredStatus}}",
    "terminate": "mutation($podId:String!){podTerminate(input:{podId:$podId})}",
}


class GraphQL:
    """RunPod's GraphQL API; its refusals come with HTTP 200."""

    name = "GraphQL"

    def __init__(self, url: str, line: Line) -> None:
        self._url, self._line = url, line

    def look(self, pod_id: str, key: str) -> Reply:
        """Query the pod; null is none that this key may see."""
        answer = self._send(_LOOK, "pod", pod_id, key)
        if isinstance(answer, Reply):
            return answer
        pod = answer.document["data"]["pod"]
        if pod is None:
            return Reply("absent", "finds no such pod for this key")
        return _pod(answer, pod, pod_id, "desiredStatus")

    def end(self, pod_id: str, action: Action, key: str) -> Reply:
        """Order it; for a pod that was terminated the answer is null."""
        field = "podStop" if action == "stop" else "podTerminate"
        answer = self._send(_ORDERS[action], field, pod_id, key)
        if isinstance(answer, Reply):
            return answer
        pod = answer.document["data"][field]
        if action == "terminate" and pod is None:
            return Reply("ended", "answered podTerminate: null")
        return _pod(answer, pod, pod_id, "desiredStatus")

    def _send(self, query: str, field: str, pod_id: str, key: str) -> Answer | Reply:
        """The answer if its data has the field, else what went wrong."""
        document = {"query": query, "variables": {"podId": pod_id}}
        answer = _ask(self._line, "POST", self._url, key, document)
        if isinstance(answer, Reply):
            return answer
        body = answer.document if isinstance(answer.document, dict) else {}
        if body.get("errors"):
            gone = "pod not found" in answer.words.lower()
            return Reply("gone" if gone else "refused", f"answered {answer.words}")
        if not isinstance(body.get("data"), dict) or field not in body["data"]:
            return Reply("unknown", f"gave an answer that cannot be read: {answer.words}")
        return answer


def _ask(line: Line, method: str, url: str, key: str, document: object) -> Answer | Reply:
    """The answer of a success, else what the status alone says."""
    try:
        answer = line.send(method, url, key, document)
    except NoAnswerError as error:
        return Reply("unknown", str(error))
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    failed = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = _KINDS.get(answer.status, "unknown" if failed else "refused")
    return Reply(kind, f"answered {answer.words}", retry_after_s=answer.retry_after_s)


def _pod(answer: Answer, pod: Any, pod_id: str, field: str) -> Reply:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(pod, dict) or pod.get("id") != pod_id or not isinstance(pod.get(field), str):
        return Reply("unknown", f"gave an answer that cannot be read: {answer.words}")
    status = pod[field].upper()
    return Reply("seen", f"shows the pod as {status}", status=status, locked=pod.get("locked") is True)
