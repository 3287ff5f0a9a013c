"""What stands before PostgREST at Supabase: keys, routes, request numbers, limits, misfortunes on the way."""

from __future__ import annotations

import httpx
import pytest

from agent.sandbox.jobs_app import JobsApp
from agent.sandbox.rest import Rest, misfortunes

TABLE = "/rest/v1/local_training_jobs"
NO_KEY = {
    "message": "No API key found in request",
    "hint": "No `apikey` request header or url param was found.",
}
BAD_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}
WHOAMI = """
create function whoami() returns json stable language sql as $$
  select json_build_object(
    'role', current_user, 'authorization', current_setting('request.headers')::json ->> 'authorization')
$$
"""


@pytest.fixture(scope="module")
def app(cluster):
    with JobsApp(cluster) as running:
        running.sql(WHOAMI)
        running.rest.refresh()
        yield running


@pytest.fixture
def rest(app):
    yield app.rest
    app.rest.faults.clear()


@pytest.fixture(scope="module")
def client():
    with httpx.Client() as opened:
        yield opened


@pytest.fixture
def whoami(rest, client):
    """Ask, with these headers, for the role that a request runs as."""
    return lambda **headers: client.post(f"{rest.endpoint}/rest/v1/rpc/whoami", headers=headers)


def test_a_request_needs_a_key(whoami):
    answer = whoami()
    assert (answer.status_code, answer.json()) == (401, NO_KEY)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "Proxy-Status" not in answer.headers


@pytest.mark.parametrize("key", ["sb_publishable_other", "sb_secret_other", "nonsense", "", "ключ"])
def test_a_key_must_be_known(whoami, key):
    answer = whoami(apikey=key.encode())
    assert (answer.status_code, answer.json()) == (401, BAD_KEY)


def test_a_token_that_is_no_key_does_not_open_the_gateway(rest, whoami):
    answer = whoami(apikey=rest.jwt("service_role"))
    assert (answer.status_code, answer.json()) == (401, BAD_KEY)


@pytest.mark.parametrize(
    ("key", "role", "stands_for"),
    [("publishable_key", "anon", "anon_key"), ("secret_key", "service_role", "service_key")],
)
def test_an_opaque_key_becomes_the_token_of_its_role(rest, whoami, key, role, stands_for):
    key, token = getattr(rest, key), getattr(rest, stands_for)
    for headers in ({}, {"Authorization": f"Bearer {key}"}):
        answer = whoami(apikey=key, **headers)
        assert answer.json() == {"role": role, "authorization": f"Bearer {token}"}


def test_an_opaque_key_in_authorization_must_be_the_same(rest, whoami):
    answer = whoami(apikey=rest.publishable_key, Authorization=f"Bearer {rest.secret_key}")
    assert (answer.status_code, answer.json()) == (401, BAD_KEY)


@pytest.mark.parametrize("key", ["publishable_key", "anon_key", "secret_key"])
def test_the_token_of_a_user_passes_whatever_the_key(rest, whoami, key):
    token = rest.jwt("authenticated", sub="1")
    answer = whoami(apikey=getattr(rest, key), Authorization=f"Bearer {token}")
    assert answer.json() == {"role": "authenticated", "authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("key", "role"), [("anon_key", "anon"), ("service_key", "service_role")])
def test_a_legacy_key_is_its_own_token(rest, whoami, key, role):
    key = getattr(rest, key)
    answer = whoami(apikey=key, Authorization=f"Bearer {key}")
    assert answer.json() == {"role": role, "authorization": f"Bearer {key}"}


def test_a_legacy_key_alone_is_anonymous(rest, whoami):
    """The gateway hands it on without `Bearer`, which PostgREST does not take for a token."""
    answer = whoami(apikey=rest.service_key)
    assert answer.json() == {"role": "anon", "authorization": rest.service_key}


def test_a_bad_token_is_postgrests_to_tell(rest, whoami):
    answer = whoami(apikey=rest.publishable_key, Authorization="Bearer a.b")
    assert (answer.status_code, answer.json()["code"]) == (401, "PGRST301")


@pytest.mark.parametrize("path", ["/", "/auth/v1/user", "/rest/v2/x", "/rest/v1x"])
def test_a_path_of_no_service_has_no_route(rest, client, path):
    answer = client.get(rest.endpoint + path, headers={"apikey": rest.publishable_key})
    assert (answer.status_code, answer.json()) == (404, {"message": "no Route matched with those values"})


@pytest.mark.parametrize("path", ["/rest/v1", "/rest/v1/"])
def test_the_root_of_the_api_is_not_described(rest, client, path):
    answer = client.get(rest.endpoint + path, headers={"apikey": rest.publishable_key})
    assert (answer.status_code, answer.json()["code"]) == (404, "PGRST126")


def test_every_answer_has_a_number(rest, client):
    paths = ("/rest/v1/rpc/whoami", TABLE, "/nowhere")
    numbers = {client.get(rest.endpoint + path).headers["sb-request-id"] for path in paths}
    assert len(numbers) == len(paths)


def test_requests_are_recorded_with_their_role(rest, whoami, client):
    whoami(apikey=rest.secret_key)
    whoami()
    client.get(f"{rest.endpoint}/nowhere")
    seen = [(request.kind, request.user, request.status) for request in rest.requests[-3:]]
    assert seen == [("rest", "service_role", 200), ("rest", None, 401), ("gateway", None, 404)]


def test_without_a_gateway_an_opaque_key_is_no_token(cluster, app, client):
    """Straight to PostgREST, as with an old local stack."""
    with Rest(cluster.dsn(app.database, "authenticator"), gateway=False) as rest:
        key = rest.publishable_key
        url = f"{rest.endpoint}{TABLE}?select=id"
        answer = client.get(url, headers={"apikey": key, "Authorization": f"Bearer {key}"})
        assert answer.status_code == 401
        assert answer.json() == {
            "code": "PGRST301",
            "details": None,
            "hint": None,
            "message": "Expected 3 parts in JWT; got 1",
        }
        assert client.get(url).json() == []


def test_without_an_anonymous_role_a_token_is_required(cluster, app, client):
    with Rest(cluster.dsn(app.database, "authenticator"), gateway=False, anon_role=None) as rest:
        url = f"{rest.endpoint}{TABLE}?select=id"
        answer = client.get(url)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert (answer.json()["code"], answer.json()["message"]) == (
            "PGRST302",
            "Anonymous access is disabled",
        )
        answer = client.get(url, headers={"Authorization": f"Bearer {rest.jwt('anon')}"})
        assert (answer.status_code, answer.json()) == (200, [])
        answer = client.get(
            f"{rest.endpoint}{TABLE}", headers={"Authorization": f"Bearer {rest.jwt('anon')}"}
        )
        assert answer.status_code == 403


def test_only_calls_of_the_api_are_limited(cluster, app, client):
    with Rest(cluster.dsn(app.database, "authenticator"), calls_s=0.001) as rest:
        headers = {"apikey": rest.publishable_key}
        url = f"{rest.endpoint}{TABLE}?select=id"
        assert [client.get(url, headers=headers).status_code for _ in range(2)] == [200, 429]
        answer = client.get(url, headers=headers)
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json() == {"message": "You have reached your rate limit."}
        assert [client.get(f"{rest.endpoint}/nowhere").status_code for _ in range(3)] == [404] * 3


@pytest.mark.parametrize(
    ("misfortune", "status", "headers", "body"),
    [
        (misfortunes.html_200, 200, {"Content-Type": "text/html; charset=utf-8"}, "<html>"),
        (misfortunes.html_502, 502, {"Content-Type": "text/html; charset=utf-8"}, "502 Bad Gateway"),
        (lambda **when: misfortunes.redirect(307, "/x", **when), 307, {"Location": "/x"}, ""),
        (lambda **when: misfortunes.schema_reload(1, **when), 503, {"Retry-After": "0"}, '"code":"PGRST002"'),
        (
            lambda **when: misfortunes.rate_limited(7, times=1, **when),
            429,
            {"Retry-After": "7"},
            "rate limit",
        ),
        (misfortunes.paused_project, 540, {}, '{"message": "Project paused"}'),
    ],
)
def test_a_misfortune_strikes_the_request_it_is_meant_for(rest, client, misfortune, status, headers, body):
    fault = rest.faults.add(misfortune(match="PATCH /rest/v1/", nth=1))
    url, key = f"{rest.endpoint}{TABLE}?id=is.null", {"apikey": rest.publishable_key}
    answers = [client.patch(url, json={"progress": 1}, headers=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [204, status, 204]
    assert {name: answers[1].headers.get(name) for name in headers} == headers
    assert body in answers[1].text
    assert "sb-request-id" in answers[1].headers
    assert fault.fired == 1
