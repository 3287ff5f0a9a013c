"""The embedded Hub: a server in a thread of its own, and the handles tests turn."""

import asyncio
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from agent.sandbox.hub.access import OrgRole, TokenRole
from agent.sandbox.hub.body import Intake
from agent.sandbox.hub.exchange import Exchange, Handler
from agent.sandbox.hub.faults import Faults
from agent.sandbox.hub.repos import Entry, Repo
from agent.sandbox.hub.routes_cas import CasRoutes
from agent.sandbox.hub.routes_lfs import LfsRoutes
from agent.sandbox.hub.routes_read import ReadRoutes
from agent.sandbox.hub.routes_repo import RepoRoutes
from agent.sandbox.hub.routes_write import WriteRoutes
from agent.sandbox.hub.traffic import ByteRate, CallRate, Request
from agent.sandbox.hub.world import World

_READ_BUFFER_BYTES = 2**20
_THROTTLED_SOCKET_BYTES = 2**17
_SHUTDOWN_S = 0.1


class Hub(World):
    """A Hugging Face Hub on 127.0.0.1, running between `start` and `close` or inside `with`.

    Args:
        root: folder for content; without one, a temporary folder that `close` removes.
        rate_bytes_s: bandwidth that all request bodies share.
        latency_s: pause before each answer.
        api_rate_s: API calls per second; more are answered 429.
        port: where to listen; 0 takes a free port.
    """

    def __init__(
        self,
        root: Path | None = None,
        rate_bytes_s: float | None = None,
        latency_s: float = 0.0,
        api_rate_s: float | None = None,
        *,
        port: int = 0,
    ) -> None:
        self._temporary = None if root else Path(tempfile.mkdtemp(prefix="hub-"))
        super().__init__(root or self._temporary or Path())
        self.faults = Faults()
        self.requests: list[Request] = []
        self.rate = ByteRate(rate_bytes_s)
        self._port = port
        self._latency_s = latency_s
        self._calls = CallRate(api_rate_s)
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> Self:
        """Listen on a free port; returns once requests are answered."""
        self._listener = _bind(self._port)
        self._listener.listen(128)
        if self.rate.bytes_s:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _THROTTLED_SOCKET_BYTES)
        self._closed_port = _bind(0)  # bound, never listening: every connection to it is refused
        self.endpoint, self.closed_endpoint = _url(self._listener), _url(self._closed_port)
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def close(self) -> None:
        """Stop, end requests under way, and remove content kept in a temporary folder."""
        if self._thread and self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._closed_port.close()
            self._thread = None
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_user(
        self, name: str, *, token: str, role: TokenRole = "write", orgs: dict[str, OrgRole] | None = None
    ) -> None:
        """Add a user with a token, or one more token to a user."""
        self.access.add(name, token, role, orgs)

    def repo(self, repo_id: str) -> Repo:
        """Return a repository, or raise KeyError."""
        return self.repos[repo_id]

    def create_repo(self, repo_id: str, *, private: bool = False) -> Repo:
        """Create a repository without asking anybody."""
        return self.new_repo(repo_id, private=private, creator=repo_id.partition("/")[0])

    def add_model(self, repo_id: str) -> Repo:
        """Add a public model that merely exists."""
        return self.create_repo(repo_id)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        title: str = "Update files",
        description: str = "",
        branch: str = "main",
    ) -> str:
        """Commit as a stranger would, past all checks; None deletes a file. Returns the oid."""
        repo = self.repos[repo_id]
        rules = self.rules_at(repo.resolve(branch))
        added: dict[str, Entry] = {}
        for path, data in files.items():
            if data is not None:
                large = rules.is_large(path, len(data), data[:512])
                added[path] = self.content.add_large(data) if large else self.content.add_blob(data)
        with repo.lock:
            tree = {path: entry for path, entry in repo.resolve(branch).tree.items() if path not in files}
            return repo.commit(branch, tree | added, title=title, message=description, author="stranger").oid

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        """Return a file as a reader would get it."""
        return self.bytes_of(self.entry_at(self.repos[repo_id].resolve(revision), path))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()  # a server that could not start must not leave `start` waiting

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        intake = Intake(self.rate)
        exchange = Exchange(
            faults=self.faults,
            requests=self.requests,
            intake=intake,
            calls=self._calls,
            latency_s=self._latency_s,
            user_of=self._user_of,
            forget=self.forget_content,
        )

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await exchange.run(request, handler)

        app = web.Application(middlewares=[middleware])
        for routes in (RepoRoutes, WriteRoutes, LfsRoutes, CasRoutes, ReadRoutes):
            app.add_routes(routes(self, intake).table())
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=_SHUTDOWN_S, read_bufsize=_READ_BUFFER_BYTES
        )
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        self._ready.set()
        await self._stop.wait()
        exchange.closing.set()
        await runner.cleanup()

    def _user_of(self, authorization: str) -> str | None:
        return self.access.name_of(authorization) or self.tickets.user_of(authorization)


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _url(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}"
