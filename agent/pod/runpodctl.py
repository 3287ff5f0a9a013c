"""The last way to end a pod: RunPod's own command line, where the image has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from agent.pod.rungs import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.pod.rungs import Action

COMMAND_S = 30.0
_PROGRAM = "runpodctl"
# runpodctl 2 takes a resource and a verb. Images ship 1.14, which knows only a verb and a resource.
# https://github.com/runpod/runpodctl, cmd/pod/delete.go, cmd/legacy/legacy.go
_FORMS: dict[str, tuple[tuple[str, str], ...]] = {
    "stop": (("pod", "stop"), ("stop", "pod")),
    "terminate": (("pod", "delete"), ("remove", "pod")),
}
_OTHER_FORM = "unknown command"
# All that it needs; the rest of our environment is none of its business.
_INHERITED = (
    "PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy",
    "NO_PROXY", "no_proxy",
)  # fmt: skip


class RunPodCtl:
    """The command line as a rung; its key travels in its environment.

    Args:
        left_s: seconds that are left for everything.
    """

    name = _PROGRAM

    def __init__(self, left_s: Callable[[], float]) -> None:
        self._left_s = left_s

    def end(self, pod_id: str, action: Action, key: str) -> Reply:
        """Give the order; success is no proof, for 1.14 exits with 0 after a stop that failed."""
        program = shutil.which(_PROGRAM)
        if program is None:
            return Reply("refused", "is not installed")
        environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environ["RUNPOD_API_KEY"] = key
        reply = Reply("refused", "was not asked")
        for form in _FORMS[action]:
            reply = self._run([program, *form, pod_id], environ)
            if _OTHER_FORM not in reply.words:
                break
        return reply

    def _run(self, command: list[str], environ: dict[str, str]) -> Reply:
        try:
            ran = subprocess.run(  # noqa: S603 - a fixed command; the id was checked
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=min(COMMAND_S, self._left_s()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Reply("unknown", f"did not end within {COMMAND_S:.0f} s")
        except OSError as error:
            return Reply("refused", f"could not be started ({error.strerror})")
        said = ran.stdout.decode(errors="replace")
        if ran.returncode:
            return Reply("refused", f"ended with {ran.returncode}: {said}")
        return Reply("accepted", f"said: {said}")
