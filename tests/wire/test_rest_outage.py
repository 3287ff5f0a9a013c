"""The embedded REST service when its database is away, slow, full, or leaves in the middle of a request."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agent.sandbox.rest import Rest

SCHEMA = """
do $$ begin create role guest nologin; exception when duplicate_object then null; end $$;
do $$ begin create role porter noinherit login; exception when duplicate_object then null; end $$;
grant guest to porter;
create table notes (id int primary key, text text);
insert into notes values (1, 'old');
grant all on notes to guest;
create function nap(seconds float) returns void language sql as $$ select pg_sleep(seconds) $$;
create function short_nap() returns void language sql set statement_timeout = '50ms' as
$$ select pg_sleep(30) $$;
create function leave() returns void language sql security definer as
$$ select pg_terminate_backend(pg_backend_pid()) $$;
"""
CACHE_MISSING = {
    "code": "PGRST002",
    "details": None,
    "hint": None,
    "message": "Could not query the database for the schema cache. Retrying.",
}


class Line:
    """The way to PostgreSQL, which can be cut when certain bytes pass; what passed before has arrived."""

    def __init__(self, dsn):
        self._server = str(Path(conninfo_to_dict(dsn)["host"], ".s.PGSQL.5432"))
        self.folder = tempfile.mkdtemp(prefix="line-")
        self.dsn = make_conninfo(dsn, host=self.folder)
        self.cut_before = self.cut_after = None
        self._deaf = False
        self._listener = None
        self._ends = []
        self._threads = []

    def open(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self.folder, ".s.PGSQL.5432")))
        self._listener.listen()
        self._run(self._accept)

    def break_off(self):
        """Break every connection, and let nobody in."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def close(self):
        if self._listener and self._listener.fileno() >= 0:
            self.break_off()
        shutil.rmtree(self.folder)

    def _run(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._ends += [client, server]
                self._run(self._pump, client, server, True)
                self._run(self._pump, server, client, False)

    def _pump(self, source, target, asks):
        with suppress(OSError):
            while data := source.recv(2**16):
                if asks and self.cut_before and self.cut_before in data:
                    break
                if asks and self.cut_after and self.cut_after in data:
                    self._deaf = True
                elif self._deaf and not asks:
                    break  # it has taken effect, and nobody hears of it
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.fixture
def database(cluster):
    database = cluster.create_database(cluster.template("rest_outage", SCHEMA))
    yield database
    cluster.drop_database(database)


@pytest.fixture
def line(cluster, database):
    line = Line(cluster.dsn(database, "porter"))
    yield line
    line.close()


@pytest.fixture(scope="module")
def client():
    with httpx.Client() as opened:
        yield opened


def serving(dsn, **options):
    return Rest(dsn, anon_role="guest", prefix="", gateway=False, **options)


def test_a_database_that_is_away_means_no_schema_cache_until_it_is_back(line, client):
    """test_log.py:296-318"""
    with serving(line.dsn) as rest:
        answer = client.get(f"{rest.endpoint}/notes")
        assert (answer.status_code, answer.json()) == (503, CACHE_MISSING)
        assert answer.headers["Retry-After"] == "0"
        assert answer.headers["Proxy-Status"] == "PostgREST; error=PGRST002"
        line.open()
        assert client.get(f"{rest.endpoint}/notes").json() == [{"id": 1, "text": "old"}]


def test_a_schema_that_does_not_exist_means_no_schema_cache(cluster, database, client):
    """test_log.py:296-318"""
    with serving(cluster.dsn(database, "porter"), schemas=["non_existent"]) as rest:
        answer = client.get(f"{rest.endpoint}/notes")
        assert (answer.status_code, answer.json()) == (503, CACHE_MISSING)


def test_while_the_schema_is_read_every_request_is_put_off(cluster, database, client):
    with serving(cluster.dsn(database, "porter")) as rest:
        with rest.reload_schema():
            for path in ("/notes", "/nowhere", "/rpc/nap", "/too/long/a/path"):
                answer = client.get(rest.endpoint + path)
                assert (answer.status_code, answer.json()) == (503, CACHE_MISSING)
                assert answer.headers["Retry-After"] == "0"
            answer = client.get(f"{rest.endpoint}/notes", headers={"Authorization": "Bearer a.b"})
            assert (answer.status_code, answer.json()["code"]) == (401, "PGRST301")
        assert client.get(f"{rest.endpoint}/notes").status_code == 200


def test_a_database_that_has_gone_is_told(line, client):
    """By the connection that it broke first, then by those that cannot be made"""
    line.open()
    with serving(line.dsn) as rest:
        line.break_off()
        answer = client.get(f"{rest.endpoint}/notes")
        assert (answer.status_code, answer.json()["code"]) == (503, "PGRST001")
        answer = client.get(f"{rest.endpoint}/notes")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "0")
        said = answer.json()
        assert (said["code"], said["message"]) == ("PGRST000", "Database connection error.")
        assert "Connection refused" in said["details"]
        assert answer.headers["Proxy-Status"] == "PostgREST; error=PGRST000"


@pytest.mark.parametrize("cut", ["cut_before", "cut_after"])
def test_a_connection_lost_at_the_commit_leaves_it_open_what_happened(cluster, database, line, cut, client):
    """test_log.py:556-572; the same answer for a row that was written and for one that was not"""
    import psycopg

    line.open()
    with serving(line.dsn) as rest:
        setattr(line, cut, b"COMMIT\0")
        answer = client.patch(f"{rest.endpoint}/notes?id=eq.1", json={"text": "new"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "0")
        said = answer.json()
        assert (said["code"], said["hint"]) == ("PGRST001", None)
        assert said["message"] == "Database client error. Retrying the connection."
        assert said["details"]
    with psycopg.connect(cluster.dsn(database)) as owner:
        written = "new" if cut == "cut_after" else "old"
        assert owner.execute("select text from notes").fetchone() == (written,)


def test_a_backend_ended_by_an_administrator_says_so(cluster, database, client):
    with serving(cluster.dsn(database, "porter")) as rest:
        answer = client.post(f"{rest.endpoint}/rpc/leave")
        assert (answer.status_code, answer.json()["code"]) == (503, "57P01")
        assert answer.json()["message"] == "terminating connection due to administrator command"
        assert client.get(f"{rest.endpoint}/notes").status_code == 200


def test_a_function_with_a_timeout_of_its_own_is_ended_by_it(cluster, database, client):
    """test_settings.py:290-299: the setting is applied before the statement, in which it would be too late"""
    with serving(cluster.dsn(database, "porter")) as rest:
        answer = client.post(f"{rest.endpoint}/rpc/short_nap")
        assert answer.status_code == 500
        message = "canceling statement due to statement timeout"
        assert answer.json() == {"code": "57014", "details": None, "hint": None, "message": message}
        assert answer.headers["Proxy-Status"] == "PostgREST; error=57014"


def test_no_turn_in_time_is_told(cluster, database, client):
    """test_connection.py:222-239"""
    dsn = cluster.dsn(database, "porter")
    with serving(dsn, pool_size=1, pool_timeout_s=0.05) as rest, ThreadPoolExecutor(1) as threads:
        import psycopg

        with psycopg.connect(cluster.dsn(database)) as owner:
            owner.execute("lock notes")
            first = threads.submit(client.get, f"{rest.endpoint}/notes")
            while not owner.execute("select 1 from pg_locks where not granted").fetchall():
                assert not first.done()
            answer = client.get(f"{rest.endpoint}/notes")
        assert first.result().status_code == 200
    assert answer.status_code == 504
    message = "Timed out acquiring connection from connection pool."
    assert answer.json() == {"code": "PGRST003", "details": None, "hint": None, "message": message}
    assert "Retry-After" not in answer.headers


def test_more_requests_than_connections_wait_for_their_turn(cluster, database, client):
    dsn = cluster.dsn(database, "porter")
    with serving(dsn, pool_size=2) as rest, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.get(f"{rest.endpoint}/notes").status_code, range(16)))
    assert answers == [200] * 16


def test_a_service_can_be_started_again(cluster, database, client):
    rest = serving(cluster.dsn(database, "porter"), pool_size=1)
    for _ in range(2):
        with rest, ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: client.get(f"{rest.endpoint}/notes").status_code, range(8)))
        assert answers == [200] * 8


def test_a_closed_service_leaves_no_session_behind(cluster, client):
    import psycopg

    database = cluster.create_database(cluster.template("rest_outage", SCHEMA))
    with serving(cluster.dsn(database, "porter")) as rest:
        client.get(f"{rest.endpoint}/notes")
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as owner:
        owner.execute(f"drop database {database}".encode())
