"""One address of AGENT_NOTIFY_URLS: a chat, a mailbox, whatever apprise reaches."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from agent.log import hide
from agent.notify.evidence import judge
from agent.notify.failure import NotToldError
from agent.notify.ledger import channel_key
from agent.notify_config import secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.notify.ledger import Ledger
    from agent.notify.message import Message

INSTALL = "pip install 'training-completion-agent[notify]'"
_APP = "training-completion-agent"
_SHORTEST_S = 0.5
# They log addresses, which are secrets, and payloads; what matters of it comes back as words.
_TALKATIVE = ("apprise", "urllib3", "requests")


class Channel:
    """One address, told of one thing at most twice, and once unless an answer was lost.

    Args:
        address: as apprise takes it.
        number: of the address among the others, from 1; 0 if there are no others.
        message: what to tell.
        ledger: what was told before.
    """

    def __init__(self, address: str, number: int, message: Message, ledger: Ledger) -> None:
        scheme = address.partition("://")[0].lower()
        self.name = f"{scheme}, address {number} of AGENT_NOTIFY_URLS" if number else scheme
        self._address, self._message, self._ledger = address, message, ledger
        self._key = channel_key(address)

    @property
    def is_told(self) -> bool:
        """Whether there is nothing left to tell."""
        return self._ledger.is_closed(self._key, self._message.event)

    def tell(self, left_s: float) -> str:
        """Send the message.

        Raises:
            NotToldError: it was refused, or nobody knows what became of it.
        """
        service = load(self._address)
        key, event = self._key, self._message.event
        self._ledger.begin(key, event)
        failure = self._send(service, left_s)
        if failure is None:
            self._ledger.sent(key, event)
            return self._message.title
        if not failure.perhaps:
            self._ledger.refused(key, event)
        elif self.is_told:
            failure.later = False
        raise failure

    def _send(self, service: Any, left_s: float) -> NotToldError | None:  # noqa: ANN401 - apprise has no types
        import apprise

        # A plugin that waits longer than we do would leave nobody to hear what the server said.
        service.socket_connect_timeout = service.socket_read_timeout = max(_SHORTEST_S, left_s - _SHORTEST_S)
        lines: list[tuple[str, str]] = []
        sender = apprise.Apprise(asset=service.asset)
        sender.add(service)

        done = _within(
            lambda: sender.notify(
                title=self._message.title,
                body=self._message.text,
                notify_type=self._message.kind,
                body_format=apprise.NotifyFormat.TEXT,
                log_level=logging.DEBUG,
                log_callback=lambda entry, _: lines.append((entry.level, entry.message)),
            ),
            left_s,
        )
        if done is None:
            return NotToldError(f"no answer within {left_s:.0f} s", later=True, perhaps=True)
        return None if done else judge(lines)


def load(address: str) -> Any:  # noqa: ANN401 - a plugin of apprise
    """The service behind an address, without retries, pauses and pieces of its own; nothing is sent.

    Raises:
        NotToldError: apprise does not know such an address, or lacks what it needs.
        ModuleNotFoundError: apprise is not installed.
    """
    import apprise

    hide(secrets_in(unquote(address)))  # as plugins spell them
    for library in _TALKATIVE:
        logging.getLogger(library).propagate = False
    logging.getLogger("apprise").setLevel(logging.DEBUG)
    # Without a timeout of its own it sends in the thread that asks; its workers would outlive us.
    asset = apprise.AppriseAsset(app_id=_APP, app_desc=_APP, async_mode=False, service_timeout=0)
    service = apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
    if service is None:
        raise NotToldError("apprise takes no such address, see its page on this service", later=False)
    service.retry, service.wait, service.optional = 0, 0.0, False
    service.request_rate_per_sec = 0.0
    if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    return service


def _within(call: Callable[[], object], seconds: float) -> bool | None:
    """Whether the call returns something true; None if it does not return in time, and is left behind."""
    answer: list[bool] = []

    def answered() -> None:
        try:
            answer.append(bool(call()))
        except Exception:  # noqa: BLE001 - a plugin's bug is a message that was not sent
            answer.append(False)

    thread = threading.Thread(target=answered, name="notification", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    return answer[0] if answer else None
