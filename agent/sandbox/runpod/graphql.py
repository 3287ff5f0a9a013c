"""RunPod's GraphQL API, as far as it shows and ends pods: one operation a request, refusals are HTTP 200."""

import re

from agent.sandbox.loopback.answers import Answer, json_answer
from agent.sandbox.loopback.refused import RefusedError
from agent.sandbox.runpod.pods import Account, Key, Right
from agent.sandbox.runpod.rest import Act, Asked

_OPERATION = re.compile(
    r"\s*(query|mutation)\b[^{]*\{\s*(pod|podStop|podTerminate)\s*\(\s*input:\s*\{\s*podId:\s*"
    r'(?:"([^"]*)"|\$(\w+))\s*\}\s*\)\s*(\{[^{}]*\})?\s*\}\s*'
)
_UNAUTHORIZED, _NOT_FOUND = 401, 404


class GraphQL:
    """`POST /graphql`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def table(self) -> dict[tuple[str, str], Act]:
        """Method and path to what is done."""
        return {("POST", "/graphql"): self._answer}

    def _answer(self, asked: Asked) -> Answer:
        key = self._account.key(asked.authorization)
        found = _OPERATION.fullmatch(str(asked.body.get("query", "")))
        if found is None:
            raise RefusedError(400, "Syntax Error: this is no operation on a pod")
        kind, field, inline, variable, selection = found.groups()
        if (kind == "query") != (field == "pod"):
            raise RefusedError(400, f'Cannot query field "{field}" on type "{kind.capitalize()}"')
        if bool(selection) != (field != "podTerminate"):
            raise RefusedError(400, f'Field "{field}" must have a selection of subfields, or has none')
        variables = asked.body.get("variables")
        given = variables.get(variable) if isinstance(variables, dict) else None
        return json_answer({"data": {field: self._act(key, field, given if variable else inline)}})

    def _act(self, key: Key, field: str, pod_id: object) -> dict[str, str] | None:
        if field == "pod":
            return self._shown(key, pod_id)
        right: Right = "stop" if field == "podStop" else "terminate"
        missing = "pod not found" if field == "podStop" else "pod not found to terminate"
        try:
            pod = self._account.pod(key, right, pod_id, f"{field} of GraphQL")
        except RefusedError as error:
            raise RefusedError(
                error.status, missing if error.status == _NOT_FOUND else error.message
            ) from error
        if pod.status == "TERMINATED":
            raise RefusedError(_NOT_FOUND, missing)
        if field == "podTerminate":
            pod.terminate()
            return None
        pod.stop()
        return {"id": pod.id, "desiredStatus": pod.seen()}

    def _shown(self, key: Key, pod_id: object) -> dict[str, str] | None:
        try:
            pod = self._account.pod(key, "read", pod_id, "pod of GraphQL")
        except RefusedError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return None if pod.is_gone() else {"id": pod.id, "desiredStatus": pod.seen()}


def errors(error: RefusedError) -> Answer:
    """A refusal in GraphQL's words: only a key that nobody knows is one by its status."""
    said = {"errors": [{"message": error.message}], "data": None}
    return json_answer(said, status=error.status if error.status == _UNAUTHORIZED else 200)
