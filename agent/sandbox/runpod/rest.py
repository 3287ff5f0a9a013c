"""RunPod's REST APIs: v2 with one address for all actions and problem+json, and v1 before it."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.runpod.pods import Account, Pod, Right


@dataclass(frozen=True)
class Asked:
    """One request, as an API sees it."""

    what: str  # METHOD /path
    pod_id: str
    authorization: str
    body: dict[str, object]


Act = Callable[[Asked], Answer]


class V2:
    """`GET` and `DELETE /v2/pods/{id}`, `POST /v2/pods/{id}/action`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def table(self) -> dict[tuple[str, str], Act]:
        """Method and path to what is done."""
        return {
            ("GET", "/v2/pods/{pod}"): self._get,
            ("POST", "/v2/pods/{pod}/action"): self._action,
            ("DELETE", "/v2/pods/{pod}"): self._terminate,
        }

    def _get(self, asked: Asked) -> Answer:
        return self._shown(_find(self._account, asked, "read"))

    def _action(self, asked: Asked) -> Answer:
        if asked.body == {"action": "terminate"}:
            return self._terminate(asked)
        if asked.body != {"action": "stop"}:
            raise RefusedError(422, 'The body must be {"action": "stop"} or {"action": "terminate"}')
        pod = _find(self._account, asked, "stop")
        pod.stop()
        return self._shown(pod)

    def _terminate(self, asked: Asked) -> Answer:
        _find(self._account, asked, "terminate").terminate()
        return Answer(status=204)

    @staticmethod
    def _shown(pod: Pod) -> Answer:
        return json_answer({"id": pod.id, "name": "trainer", "status": pod.seen(), "locked": pod.locked})


class V1:
    """`GET` and `DELETE /v1/pods/{id}`, `POST /v1/pods/{id}/stop`; stopping twice is no error."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def table(self) -> dict[tuple[str, str], Act]:
        """Method and path to what is done."""
        return {
            ("GET", "/v1/pods/{pod}"): self._get,
            ("POST", "/v1/pods/{pod}/stop"): self._stop,
            ("DELETE", "/v1/pods/{pod}"): self._terminate,
        }

    def _get(self, asked: Asked) -> Answer:
        return self._shown(_find(self._account, asked, "read"))

    def _stop(self, asked: Asked) -> Answer:
        pod = _find(self._account, asked, "stop")
        if pod.status != "EXITED":
            pod.stop()
        return self._shown(pod)

    def _terminate(self, asked: Asked) -> Answer:
        _find(self._account, asked, "terminate").terminate()
        return Answer(status=204)

    @staticmethod
    def _shown(pod: Pod) -> Answer:
        return json_answer({"id": pod.id, "name": "trainer", "desiredStatus": pod.seen()})


def _find(account: Account, asked: Asked, right: Right) -> Pod:
    pod = account.pod(account.key(asked.authorization), right, asked.pod_id, asked.what)
    if pod.is_gone():
        raise RefusedError(404, "pod not found")
    return pod


def problem(error: RefusedError) -> Answer:
    """A refusal in v2's words."""
    said = {"type": "about:blank", "title": "Error", "status": error.status, "detail": error.message}
    headers = {"Content-Type": "application/problem+json", **error.headers}
    return Answer(json.dumps(said).encode(), status=error.status, headers=headers)
