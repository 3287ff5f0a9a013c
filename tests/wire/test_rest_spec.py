"""The embedded REST service answers as PostgREST's own specs demand; each case names its place there.

The places are files under test/spec/Feature of PostgREST at 4834678 (and test/io for what needs a process).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import httpx
import pytest

from agent.sandbox.rest import Rest, tokens
from agent.sandbox.rest.errors import ApiError

SECRET = "reallyreallyreallyreallyverysafe"
AUTHOR = "postgrest_test_author"
REP = {"Prefer": "return=representation"}
SINGULAR = {"Accept": "application/vnd.pgrst.object+json"}
JSON = "application/json; charset=utf-8"
OBJECT = "application/vnd.pgrst.object+json; charset=utf-8"
DENIED = {"code": "42501", "details": None, "hint": None}


class Spec:
    """A PostgREST without gateway, and a client that sends exactly what a case says."""

    def __init__(self, rest: Rest, client: httpx.Client) -> None:
        self.rest = rest
        self._client = client

    def ask(self, method, path, body=None, *, prefer=(), token=None, **headers):
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        pairs += [("Prefer", wish) for wish in ([prefer] if isinstance(prefer, str) else prefer)]
        pairs += [("Authorization", f"Bearer {token}")] if token is not None else []
        pairs += [("Content-Type", "application/json")] if body is not None else []
        content = body if isinstance(body, str | None) else json.dumps(body)
        return self._client.request(method, self.rest.endpoint + path, content=content, headers=pairs)

    def jwt(self, **claims):
        return tokens.mint(claims, SECRET)


@pytest.fixture(scope="module")
def database(cluster):
    name = cluster.template("rest_spec", Path(__file__).with_name("rest_spec_fixtures.sql").read_text())
    database = cluster.create_database(name)
    yield database
    cluster.drop_database(database)


@pytest.fixture(scope="module")
def spec(cluster, database):
    """As in the specs: every transaction is rolled back unless the client says tx=commit."""
    with serving(cluster, database) as rest, httpx.Client() as client:
        yield Spec(rest, client)


def serving(cluster, database, **changes):
    settings = {
        "schemas": ["test"],
        "extra_search_path": [],
        "anon_role": "postgrest_test_anonymous",
        "jwt_secret": SECRET,
        "prefix": "",
        "gateway": False,
        "safeupdate": False,
        "tx_end_override": True,
        "rollback_all": True,
    }
    dsn = cluster.dsn(database, "postgrest_test_authenticator")
    return Rest(dsn, **settings | changes)


def error(code, message, details=None, hint=None):
    return {"code": code, "details": details, "hint": hint, "message": message}


def assert_no_content(answer):
    assert answer.status_code == 204
    assert answer.content == b""
    assert "Content-Type" not in answer.headers
    assert "Content-Length" not in answer.headers


# Query/UpdateSpec.hs


def test_an_unknown_table_is_told_by_its_name(spec):
    """UpdateSpec.hs:15-23"""
    answer = spec.ask("PATCH", "/fake", {"real": False})
    assert answer.status_code == 404
    assert answer.json() == error("PGRST205", "Could not find the table 'test.fake' in the schema cache")
    assert answer.headers["Content-Length"] == "115"


def test_an_empty_table_is_updated_without_content(spec):
    """UpdateSpec.hs:26-35"""
    assert_no_content(spec.ask("PATCH", "/empty_table", {"extra": 20}))


def test_a_body_that_is_no_json_is_refused(spec):
    """UpdateSpec.hs:37-45"""
    answer = spec.ask("PATCH", "/simple_pk", "}{ x = 2")
    assert answer.status_code == 400
    assert answer.json() == error("PGRST102", "Empty or invalid json")
    assert answer.headers["Content-Type"] == JSON
    assert answer.headers["Content-Length"] == "80"


@pytest.mark.parametrize("body", ["", "NaN", '{"id": Infinity}', "[" * 100_000])
def test_no_body_is_no_json_either(spec, body):
    """UpdateSpec.hs:47-54; and what only Python takes for JSON"""
    answer = spec.ask("PATCH", "/items", body)
    assert answer.status_code == 400
    assert answer.json() == error("PGRST102", "Empty or invalid json")


def test_whitespace_around_the_body_means_nothing(spec):
    """UpdateSpec.hs:56-64"""
    answer = spec.ask(
        "PATCH", "/items?id=eq.1", '\t \n \r { "id": 99 } \t \n \r ', prefer="return=representation"
    )
    assert (answer.status_code, answer.text) == (200, '[{"id":99}]')
    assert answer.headers["Content-Length"] == "11"


def test_one_row_is_updated_and_counted(spec):
    """UpdateSpec.hs:67-76"""
    answer = spec.ask("PATCH", "/items?id=eq.2", {"id": 42})
    assert_no_content(answer)
    assert answer.headers["Content-Range"] == "0-0/*"


def test_no_row_updated_is_a_success_with_an_empty_list(spec):
    """UpdateSpec.hs:78-86"""
    answer = spec.ask("PATCH", "/items?id=eq.999999", {"id": 999999}, prefer="return=representation")
    assert (answer.status_code, answer.text) == (200, "[]")
    assert answer.headers["Preference-Applied"] == "return=representation"
    assert answer.headers["Content-Length"] == "2"


def test_no_row_updated_is_a_success_without_content(spec):
    """UpdateSpec.hs:88-91"""
    assert_no_content(spec.ask("PATCH", "/items?id=eq.99999999", {"id": 42}))


def test_the_updated_row_comes_back(spec):
    """UpdateSpec.hs:93-100"""
    answer = spec.ask("PATCH", "/items?id=eq.2", {"id": 2}, prefer="return=representation")
    assert (answer.status_code, answer.json()) == (200, [{"id": 2}])
    assert answer.headers["Content-Range"] == "0-0/*"
    assert answer.headers["Preference-Applied"] == "return=representation"


def test_several_rows_are_updated_and_the_commit_is_seen(spec):
    """UpdateSpec.hs:102-133"""
    assert spec.ask("GET", "/no_pk?select=a&b=eq.1").json() == []
    answer = spec.ask("PATCH", "/no_pk?b=eq.0", {"b": "1"}, prefer="tx=commit")
    assert_no_content(answer)
    assert answer.headers["Content-Range"] == "0-1/*"
    assert answer.headers["Preference-Applied"] == "tx=commit"
    assert spec.ask("GET", "/no_pk?select=a&b=eq.1&order=a").json() == [{"a": "1"}, {"a": "2"}]
    assert spec.ask("PATCH", "/no_pk?b=eq.1", {"b": "0"}, prefer="tx=commit").status_code == 204


def test_without_a_commit_nothing_is_seen_afterwards(spec):
    """SpecHelper.hs:130-136, configDbTxRollbackAll"""
    assert spec.ask("PATCH", "/no_pk?a=eq.1", {"b": "9"}, prefer=REP["Prefer"]).json() == [
        {"a": "1", "b": "9"}
    ]
    assert spec.ask("GET", "/no_pk?b=eq.9").json() == []


def test_a_column_can_be_set_to_null(spec):
    """UpdateSpec.hs:135-140"""
    answer = spec.ask("PATCH", "/no_pk?a=eq.1", {"b": None}, prefer="return=representation")
    assert answer.json() == [{"a": "1", "b": None}]


def test_a_computed_column_filters(spec):
    """UpdateSpec.hs:142-150"""
    answer = spec.ask("PATCH", "/items?is_first=eq.true", {"id": 100}, prefer="return=representation")
    assert answer.json() == [{"id": 100}]


def test_select_counts_for_nothing_without_a_representation(spec):
    """UpdateSpec.hs:208-230"""
    answer = spec.ask("PATCH", "/items?id=eq.1&select=id", {"id": 1}, prefer="return=minimal")
    assert_no_content(answer)
    assert answer.headers["Content-Range"] == "0-0/*"
    assert answer.headers["Preference-Applied"] == "return=minimal"
    assert_no_content(spec.ask("PATCH", "/items?id=eq.1&select=no_such_column", {"id": 1}))


@pytest.mark.parametrize("path", ["/items", "/items?select=id"])
@pytest.mark.parametrize("body", ["{}", "[]", "[{}]", '"text"', "1"])
def test_nothing_to_set_updates_nothing_even_without_a_filter(spec, path, body):
    """UpdateSpec.hs:232-299"""
    answer = spec.ask("PATCH", path, body)
    assert_no_content(answer)
    assert answer.headers["Content-Range"] == "*/*"


@pytest.mark.parametrize("path", ["/items", "/items?select=id"])
def test_nothing_to_set_returns_nothing(spec, path):
    """UpdateSpec.hs:301-317"""
    answer = spec.ask("PATCH", path, {}, prefer="return=representation")
    assert (answer.status_code, answer.text) == (200, "[]")
    assert answer.headers["Content-Range"] == "*/*"
    assert answer.headers["Preference-Applied"] == "return=representation"


def test_any_script_survives(spec):
    """UpdateSpec.hs:326-334"""
    answer = spec.ask("PATCH", "/no_pk?a=eq.1", {"a": "圍棋", "b": "￥"}, prefer="return=representation")
    assert answer.text == '[{"a":"圍棋","b":"￥"}]'
    answer = spec.ask("GET", "/items?id=eq.圍")
    said = 'invalid input syntax for type bigint: \\"圍\\"'
    assert answer.text == f'{{"code":"22P02","details":null,"hint":null,"message":"{said}"}}'


@pytest.mark.parametrize(("id_", "rows"), [(1, 1), (2001, 0)])
def test_keys_that_columns_does_not_name_are_ignored(spec, id_, rows):
    """UpdateSpec.hs:336-346"""
    body = {"body": "Some real content", "smth": "here", "other": "stuff", "fake_id": 13}
    answer = spec.ask("PATCH", f"/articles?id=eq.{id_}&columns=body", body, prefer="return=representation")
    assert answer.status_code == 200
    row = {"id": 1, "body": "Some real content", "owner": "postgrest_test_anonymous"}
    assert answer.json() == [row] * rows


def test_columns_must_exist(spec):
    """UpdateSpec.hs:348-356"""
    answer = spec.ask("PATCH", "/articles?id=eq.1&columns=helicopter", {"body": "yyy"}, prefer=REP["Prefer"])
    assert answer.status_code == 400
    message = "Could not find the 'helicopter' column of 'articles' in the schema cache"
    assert answer.json() == error("PGRST204", message)


def test_a_missing_table_is_told_before_a_missing_column(spec):
    """UpdateSpec.hs:358-368"""
    answer = spec.ask(
        "PATCH", "/garlic?columns=helicopter", [{"id": 204, "body": "yyy"}], prefer=REP["Prefer"]
    )
    assert answer.status_code == 404
    assert answer.json() == error("PGRST205", "Could not find the table 'test.garlic' in the schema cache")
    assert answer.headers["Content-Length"] == "117"


@pytest.mark.parametrize("prefer", [["return=minimal"], []])
def test_a_column_that_may_not_be_read_may_be_written(spec, prefer):
    """UpdateSpec.hs:621-643"""
    answer = spec.ask("PATCH", "/app_users?id=eq.1", {"password": "passxyz"}, prefer=prefer)
    assert_no_content(answer)
    assert answer.headers.get("Preference-Applied") == (prefer[0] if prefer else None)


def test_what_may_not_be_read_cannot_come_back(spec):
    """UpdateSpec.hs:621-643, the other way round"""
    answer = spec.ask("PATCH", "/app_users?id=eq.1", {"password": "passxyz"}, prefer="return=representation")
    assert (answer.status_code, answer.json()["code"]) == (401, "42501")
    selected = "/app_users?id=eq.1&select=id,email"
    answer = spec.ask("PATCH", selected, {"password": "passxyz"}, prefer="return=representation")
    assert answer.json() == [{"id": 1, "email": "test@123.com"}]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code"),
    [
        ("PATCH", "/a/b", "}", {"Content_Profile": "x", "Authorization": "Bearer a.b"}, "PGRST301"),
        ("PATCH", "/a/b", "}", {"Content_Profile": "x"}, "PGRST125"),
        ("PUT", "/fake?id=0&limit=-1", "}", {"Content_Profile": "x"}, "PGRST106"),
        ("PUT", "/fake?id=0&limit=-1", "}", {}, "PGRST117"),
        ("PATCH", "/fake?id=0&limit=-1", "}", {}, "PGRST100"),
        ("PATCH", "/fake?limit=-1", "}", {}, "PGRST103"),
        ("PATCH", "/fake", "}", {}, "PGRST102"),
        (
            "PATCH",
            "/fake?x.id=eq.1",
            '{"x": 1}',
            {"Prefer": "handling=strict, x", "Accept": "x/y"},
            "PGRST205",
        ),
        (
            "PATCH",
            "/items?x.id=eq.1",
            '{"x": 1}',
            {"Prefer": "handling=strict, x", "Accept": "x/y"},
            "PGRST108",
        ),
        ("PATCH", "/items?y=eq.1", '{"x": 1}', {"Prefer": "handling=strict, x", "Accept": "x/y"}, "PGRST204"),
        (
            "PATCH",
            "/items?y=eq.1",
            '{"id": 1}',
            {"Prefer": "handling=strict, x", "Accept": "x/y"},
            "PGRST122",
        ),
        ("PATCH", "/items?y=eq.1", '{"id": 1}', {"Accept": "x/y"}, "PGRST107"),
        ("GET", "/items?y=eq.1", None, {"Prefer": "handling=strict, x", "Accept": "x/y"}, "PGRST107"),
        ("GET", "/items?y=eq.1", None, {"Prefer": "handling=strict, x"}, "PGRST122"),
        ("PATCH", "/items?y=eq.1", '{"id": 1}', {}, "42703"),
    ],
)
def test_of_several_mistakes_the_first_is_told(spec, method, path, body, headers, code):
    """App.hs:155-249, ApiRequest.hs:77-83, Plan.hs:202-209"""
    assert spec.ask(method, path, body, **headers).json()["code"] == code


# Query/InsertSpec.hs


def test_a_missing_value_shows_the_row_that_failed(spec):
    """InsertSpec.hs:208-215"""
    answer = spec.ask("POST", "/simple_pk", {"extra": "foo"})
    assert answer.status_code == 400
    message = 'null value in column "k" of relation "simple_pk" violates not-null constraint'
    assert answer.json() == error("23502", message, "Failing row contains (null, foo).")
    assert answer.headers["Content-Type"] == JSON


def test_headers_only_tells_where_the_new_row_is(spec):
    """InsertSpec.hs:198-206"""
    body = {"non_nullable_string": "not null"}
    answer = spec.ask("POST", "/auto_incrementing_pk", body, prefer="return=headers-only")
    assert (answer.status_code, answer.content) == (201, b"")
    assert "Content-Type" not in answer.headers
    assert answer.headers["Content-Length"] == "0"
    assert answer.headers["Location"].startswith("/auto_incrementing_pk?id=eq.")
    assert answer.headers["Preference-Applied"] == "return=headers-only"


def test_an_insert_returns_the_columns_that_may_be_read(spec):
    """InsertSpec.hs:707-713"""
    path = "/limited_article_stars?select=article_id,user_id"
    answer = spec.ask("POST", path, {"article_id": 2, "user_id": 1}, prefer="return=representation")
    assert (answer.status_code, answer.json()) == (201, [{"article_id": 2, "user_id": 1}])


@pytest.mark.parametrize("select", ["?select=article_id,user_id,created_at", ""])
def test_an_insert_cannot_return_the_others(spec, select):
    """InsertSpec.hs:715-729"""
    body = {"article_id": 2, "user_id": 2}
    answer = spec.ask("POST", f"/limited_article_stars{select}", body, prefer="return=representation")
    assert answer.status_code == 401
    assert answer.json() == DENIED | {"message": "permission denied for view limited_article_stars"}


# Query/SingularSpec.hs


def test_one_updated_row_comes_back_as_an_object(spec):
    """SingularSpec.hs:47-54"""
    body = {"address": "B Street"}
    answer = spec.ask("PATCH", "/addresses?id=eq.1", body, prefer="return=representation", **SINGULAR)
    assert (answer.status_code, answer.json()) == (200, {"id": 1, "address": "B Street"})
    assert answer.headers["Content-Type"] == OBJECT


def test_one_updated_row_need_not_come_back(spec):
    """SingularSpec.hs:56-65"""
    answer = spec.ask("PATCH", "/addresses?id=eq.1", {"address": "C"}, prefer="return=minimal", **SINGULAR)
    assert_no_content(answer)
    assert answer.headers["Preference-Applied"] == "return=minimal"


@pytest.mark.parametrize("prefer", [["tx=commit"], ["tx=commit", "return=representation"]])
def test_several_rows_are_no_object_and_stay_as_they_were(spec, prefer):
    """SingularSpec.hs:67-95"""
    answer = spec.ask("PATCH", "/addresses", {"address": "zzz"}, prefer=prefer, **SINGULAR)
    assert answer.status_code == 406
    message = "Cannot coerce the result to a single JSON object"
    assert answer.json() == error("PGRST116", message, "The result contains 4 rows")
    assert answer.headers["Content-Type"] == JSON
    assert spec.ask("GET", "/addresses?id=eq.1").json() == [{"id": 1, "address": "address 1"}]


@pytest.mark.parametrize("prefer", [[], ["return=representation"]])
def test_no_row_is_no_object(spec, prefer):
    """SingularSpec.hs:97-113"""
    answer = spec.ask("PATCH", "/items?id=gt.0&id=lt.0", {"id": 1}, prefer=prefer, **SINGULAR)
    assert answer.status_code == 406
    message = "Cannot coerce the result to a single JSON object"
    assert answer.json() == error("PGRST116", message, "The result contains 0 rows")


@pytest.mark.parametrize("accept", ["application/vnd.pgrst.object+json", "application/vnd.pgrst.object"])
def test_one_row_is_read_as_an_object(spec, accept):
    """SingularSpec.hs:19-37"""
    answer = spec.ask("GET", "/items?id=eq.5", Accept=accept)
    assert (answer.status_code, answer.json()) == (200, {"id": 5})
    assert answer.headers["Content-Type"] == OBJECT
    assert spec.ask("GET", "/items?id=gt.0&id=lt.0", Accept=accept).status_code == 406


# Query/Preferences


def test_more_rows_than_allowed_are_not_updated(spec):
    """MaxAffectedSpec.hs:31-37"""
    body = [{"name": "Java", "rank": 19}]
    wish = "handling=strict, max-affected=0, tx=commit"
    answer = spec.ask("PATCH", "/tiobe_pls?name=eq.Java", body, prefer=wish)
    assert answer.status_code == 400
    message = "Query result exceeds max-affected preference constraint"
    assert answer.json() == error("PGRST124", message, "The query affects 1 rows")
    assert spec.ask("GET", "/tiobe_pls?name=eq.Java").json() == [{"name": "Java", "rank": 1}]


@pytest.mark.parametrize(
    ("method", "path", "wish", "status", "applied"),
    [
        ("DELETE", "/items?id=lt.15", "handling=strict, max-affected=10", 400, None),
        (
            "DELETE",
            "/items?id=lt.10",
            "handling=strict, max-affected=10",
            204,
            "handling=strict, max-affected=10",
        ),
        (
            "DELETE",
            "/tiobe_pls?name=eq.Java",
            "handling=strict, max-affected=1",
            204,
            "handling=strict, max-affected=1",
        ),
        ("DELETE", "/items?id=lt.15", "handling=lenient, max-affected=10", 204, "handling=lenient"),
        ("PATCH", "/tiobe_pls?name=eq.Java", "handling=lenient, max-affected=0", 204, "handling=lenient"),
    ],
)
def test_only_the_strict_limit_counts_and_is_confirmed(spec, method, path, wish, status, applied):
    """MaxAffectedSpec.hs:13-29, 39-46, 48-74"""
    body = [{"name": "Java", "rank": 19}] if method == "PATCH" else None
    answer = spec.ask(method, path, body, prefer=wish)
    assert (answer.status_code, answer.headers.get("Preference-Applied")) == (status, applied)


@pytest.mark.parametrize(
    ("method", "prefer", "unknown"),
    [
        ("GET", ["handling=strict, anything"], "anything"),
        ("GET", ["handling=strict", "something, else"], "something, else"),
        ("PATCH", ["return=representation, handling=strict, anything"], "anything"),
    ],
)
def test_the_strict_hear_of_preferences_nobody_knows(spec, method, prefer, unknown):
    """HandlingSpec.hs:15-34"""
    answer = spec.ask(method, "/items?id=eq.1", {"id": 1} if method == "PATCH" else None, prefer=prefer)
    assert answer.status_code == 400
    message = "Invalid preferences given with handling=strict"
    assert answer.json() == error("PGRST122", message, f"Invalid preferences: {unknown}")


@pytest.mark.parametrize(
    "prefer", [["handling=lenient, anything"], ["handling=lenient", "anything"], ["anything"]]
)
def test_the_lenient_do_not(spec, prefer):
    """HandlingSpec.hs:44-53"""
    assert spec.ask("GET", "/items", prefer=prefer).status_code == 200


# Query/PgSafeUpdateSpec.hs


def test_a_write_to_every_row_is_refused(cluster, database):
    """PgSafeUpdateSpec.hs:18-51; and without a column to set there is no write"""
    with serving(cluster, database, safeupdate=True) as rest, httpx.Client() as client:
        spec = Spec(rest, client)
        body = {"name": "New name"}
        answer = spec.ask("PATCH", "/safe_update_items", body, prefer="count=exact")
        assert answer.status_code == 400
        assert answer.json() == error("21000", "UPDATE requires a WHERE clause")
        assert_no_content(spec.ask("PATCH", "/safe_update_items?id=gt.0", body))
        assert_no_content(spec.ask("PATCH", "/safe_update_items", {}))
        answer = spec.ask("DELETE", "/safe_delete_items")
        assert (answer.status_code, answer.json()["message"]) == (400, "DELETE requires a WHERE clause")
        assert_no_content(spec.ask("DELETE", "/safe_delete_items?id=gt.0"))


def test_a_write_to_every_row_is_allowed_without_the_extension(spec):
    """PgSafeUpdateSpec.hs:53-69"""
    answer = spec.ask("PATCH", "/safe_update_items", {"name": "updated-item"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (204, "0-1/*")


# Auth/AuthSpec.hs


def test_what_the_anonymous_may_not_read_wants_a_token(spec):
    """AuthSpec.hs:15-25"""
    answer = spec.ask("GET", "/authors_only")
    assert answer.status_code == 401
    assert answer.json() == DENIED | {"message": "permission denied for table authors_only"}
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Length"] == "96"


def test_what_a_known_role_may_not_read_is_forbidden(spec):
    """AuthSpec.hs:27-38"""
    answer = spec.ask("GET", "/private_table", token=spec.jwt(role=AUTHOR))
    assert answer.status_code == 403
    assert answer.json() == DENIED | {"message": "permission denied for table private_table"}
    assert answer.headers["Content-Length"] == "97"
    assert "WWW-Authenticate" not in answer.headers


def test_functions_have_rights_too(spec):
    """AuthSpec.hs:40-49"""
    assert spec.ask("POST", "/rpc/privileged_hello", {"name": "anonymous"}).status_code == 401
    answer = spec.ask("POST", "/rpc/privileged_hello", {"name": "jdoe"}, token=spec.jwt(role=AUTHOR))
    assert (answer.status_code, answer.json()) == (200, "Privileged hello to jdoe")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_opens_what_its_role_may_read(spec, scheme):
    """AuthSpec.hs:71-92, 234-239; the token is the one in the spec"""
    token = (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJyb2xlIjoicG9zdGdyZXN0X3Rlc3RfYXV0aG9yIiwiaWQiOiJqZG9lIn0."
        "B-lReuGNDwAlU1GOC476MlO0vAt9JNoHIlxg2vwMaO0"
    )
    assert spec.ask("GET", "/authors_only", Authorization=f"{scheme} {token}").status_code == 200


def test_an_empty_token_is_an_error(spec):
    """AuthSpec.hs:94-104"""
    answer = spec.ask("GET", "/authors_only", Authorization="Bearer")  # HTTP drops blanks at the end
    assert answer.status_code == 401
    said = "Empty JWT is sent in Authorization header"
    assert answer.json() == error("PGRST301", said)
    assert answer.headers["WWW-Authenticate"] == f'Bearer error="invalid_token", error_description="{said}"'
    assert answer.headers["Content-Length"] == "100"


def test_an_expired_token_is_an_error(spec):
    """AuthSpec.hs:106-115; the token is the one in the spec"""
    token = (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE0NDY2NzgxNDksInJvbGUiOiJwb3N0Z3Jlc3RfdGVzdF9hdXRob3Ii"
        "LCJpZCI6Impkb2UifQ.f8__E6VQwYcDqwHmr9PG03uaZn8Zh1b0vbJ9DYS0AdM"
    )
    answer = spec.ask("GET", "/authors_only", token=token)
    assert (answer.status_code, answer.json()) == (401, error("PGRST303", "JWT expired"))
    said = 'Bearer error="invalid_token", error_description="JWT expired"'
    assert answer.headers["WWW-Authenticate"] == said


def test_a_token_has_three_parts(spec):
    """AuthSpec.hs:117-126, ErrorSpec.hs:190-201"""
    token = "ey9zdGdyZXN0X3Rlc3RfYXV0aG9yIiwiaWQiOiJqZG9lIn0.y4vZuu1dDdwAl0-S00MCRWRYMlJ5YAMSir6Es6WtWx0"
    answer = spec.ask("GET", "/authors_only", token=token)
    assert (answer.status_code, answer.json()) == (401, error("PGRST301", "Expected 3 parts in JWT; got 2"))
    assert answer.headers["Proxy-Status"] == "PostgREST; error=PGRST301"
    assert answer.headers["Content-Length"] == "89"


def test_a_token_without_a_role_is_anonymous(spec):
    """AuthSpec.hs:128-136"""
    for claims in ({}, {"id": "jdoe"}):
        answer = spec.ask("GET", "/authors_only", token=spec.jwt(**claims))
        assert (answer.status_code, answer.json()["code"]) == (401, "42501")


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["invalid", True, [1]])
def test_times_in_a_token_are_numbers(spec, claim, value):
    """AuthSpec.hs:145-179"""
    answer = spec.ask("GET", "/authors_only", token=spec.jwt(role=AUTHOR, **{claim: value}))
    assert (answer.status_code, answer.json()) == (
        401,
        error("PGRST303", f"The JWT '{claim}' claim must be a number"),
    )


@pytest.mark.parametrize("audience", [{"invalid": "value"}, [{"invalid": "value"}, "test"], 1])
def test_an_audience_is_made_of_texts(spec, audience):
    """AuthSpec.hs:181-203"""
    answer = spec.ask("GET", "/authors_only", token=spec.jwt(role=AUTHOR, aud=audience))
    message = "The JWT 'aud' claim must be a string or an array of strings"
    assert (answer.status_code, answer.json()) == (401, error("PGRST303", message))
    assert spec.ask("GET", "/authors_only", token=spec.jwt(role=AUTHOR, aud=["a", "b"])).status_code == 200


# Query/ErrorSpec.hs


def test_a_token_of_somebody_else_is_refused(spec):
    """ErrorSpec.hs:107-118"""
    answer = spec.ask("GET", "/authors_only", token=tokens.mint({}, "wrong secret"))
    assert answer.status_code == 401
    details = "None of the keys was able to decode the JWT"
    assert answer.json() == error("PGRST301", "No suitable key or wrong key type", details)


def test_a_role_must_exist(spec):
    """ErrorSpec.hs:120-131"""
    answer = spec.ask("GET", "/authors_only", token=spec.jwt(role="not existing"))
    assert answer.status_code == 401
    assert answer.json() == error("22023", 'role "not existing" does not exist')


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 970}, None),
        ({"exp": 969}, "JWT expired"),
        ({"exp": 1000.5}, "JWT expired"),
        ({"nbf": 1030}, None),
        ({"nbf": 1031}, "JWT not yet valid"),
        ({"iat": 1030}, None),
        ({"iat": 1031}, "JWT issued at future"),
        ({"exp": None, "nbf": None, "iat": None, "aud": None}, None),
    ],
)
def test_clocks_may_differ_by_half_a_minute(claims, message):
    """ErrorSpec.hs:133-174, at the very second"""
    token = tokens.mint(claims, SECRET)
    if message is None:
        assert tokens.read(token, SECRET, clock=lambda: 1000.9) == claims
        return
    with pytest.raises(ApiError, match=message) as refused:
        tokens.read(token, SECRET, clock=lambda: 1000.9)
    assert (refused.value.status, refused.value.code) == (401, "PGRST303")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1}, "JWT expired"),
        ({"nbf": 9999999999}, "JWT not yet valid"),
        ({"iat": 9999999999}, "JWT issued at future"),
    ],
)
def test_a_token_holds_at_its_time_only(spec, claims, message):
    """ErrorSpec.hs:133-174"""
    answer = spec.ask("GET", "/authors_only", token=spec.jwt(role=AUTHOR, **claims))
    assert (answer.status_code, answer.json()) == (401, error("PGRST303", message))


def encoded(*parts):
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed(header, payload):
    head = encoded(header, payload)
    return f"{head}.{encoded(hmac.new(SECRET.encode(), head.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize(
    ("token", "code", "message", "details"),
    [
        (
            "quifquirndsjagnrgniur.fonvoienqhhdj.iuqvnvhojah",
            "PGRST301",
            "JWT cryptographic operation failed",
            None,
        ),
        (
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.yOBhlOIqn56T-4NvyEXCjfi3UmyQZ-BzXtePMO2NgRI",
            "PGRST301",
            "Wrong or unsupported encoding algorithm",
            "JWT is unsecured but expected 'alg' was not 'none'",
        ),
        (signed(b'{"alg":"HS999"}', b"{}"), "PGRST301", "JWT couldn't be decoded", None),
        (signed(b'{"alg":"HS256"}', b"not an object"), "PGRST303", "Parsing claims failed", None),
        (signed(b'{"alg":"HS256"}', b'{"exp":Infinity}'), "PGRST303", "Parsing claims failed", None),
        (signed(b'{"alg":"HS256"}', b'{"exp":1e400}'), "PGRST303", "JWT expired", None),
        (signed(b'{"alg":"HS256"}', b"[]"), "PGRST303", "Parsing claims failed", None),
    ],
)
def test_a_token_that_is_none_is_told_apart(spec, token, code, message, details):
    """ErrorSpec.hs:203-225"""
    answer = spec.ask("GET", "/authors_only", token=token)
    assert (answer.status_code, answer.json()) == (401, error(code, message, details))


@pytest.mark.parametrize(
    ("path", "status", "code", "length"),
    [
        ("/invalid/nested/paths", 404, "PGRST125", "96"),
        ("/non_existent_table", 404, "PGRST205", "129"),
        ("/rpc/raise_pt402", 402, "PT402", "99"),
        ("/rpc/raise_sqlstate_test1", 332, "123", "59"),
    ],
)
def test_errors_name_themselves_in_a_header(spec, path, status, code, length):
    """ErrorSpec.hs:33-78"""
    answer = spec.ask("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Proxy-Status"] == f"PostgREST; error={code}"
    assert answer.headers["Content-Length"] == length


def test_a_raised_status_brings_its_words(spec):
    """ErrorSpec.hs:61-78"""
    answer = spec.ask("GET", "/rpc/raise_pt402")
    assert answer.reason_phrase == "Payment Required"
    assert answer.json() == error("PT402", "Payment Required", "Quota exceeded", "Upgrade your plan")
    answer = spec.ask("GET", "/rpc/raise_sqlstate_test1")
    assert (answer.reason_phrase, answer.headers["X-Header"]) == ("My Custom Status", "str")
    assert answer.json() == error("123", "ABC", "DEF", "XYZ")


@pytest.mark.parametrize(
    ("name", "similar", "length"),
    [("projectx", "projects", "160"), ("projecxx", "projects", "160"), ("projxxxx", None, "119")],
)
def test_a_similar_table_is_offered(spec, name, similar, length):
    """ErrorSpec.hs:79-104"""
    answer = spec.ask("GET", f"/{name}")
    hint = f"Perhaps you meant the table 'test.{similar}'" if similar else None
    message = f"Could not find the table 'test.{name}' in the schema cache"
    assert answer.json() == error("PGRST205", message, None, hint)
    assert answer.headers["Content-Length"] == length


def test_several_rows_where_one_must_be_are_the_servers_fault(spec):
    """ErrorSpec.hs:17-18"""
    answer = spec.ask("GET", "/rpc/bad_subquery")
    assert (answer.status_code, answer.json()["code"]) == (500, "21000")


# Query/QuerySpec.hs, Query/AndOrParamsSpec.hs


def test_a_filter_without_operator_says_what_is_missing(spec):
    """QuerySpec.hs:1269-1274"""
    answer = spec.ask("GET", "/items?id=0")
    assert answer.status_code == 400
    details = 'unexpected "0" expecting "not" or operator (eq, gt, ...)'
    assert answer.json() == error("PGRST100", '"failed to parse filter (0)" (line 1, column 1)', details)


ODD = [{"id": 1}, {"id": 3}, {"id": 5}]


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/items?id=not.gt.2&order=id.asc", [{"id": 1}, {"id": 2}]),
        ("/items?id=in.(1,3,5)&order=id", ODD),
        ("/items?id=not.in.(2,4,6,7,8,9,10,11,12,13,14,15)&order=id", ODD),
        ("/no_pk?a=not.is.null&order=a", [{"a": "1", "b": "0"}, {"a": "2", "b": "0"}]),
        ("/no_pk?a=is.not_null&order=a", [{"a": "1", "b": "0"}, {"a": "2", "b": "0"}]),
        ("/no_pk?a=is.null", [{"a": None, "b": None}]),
        ("/no_pk?a=not.is.not_null", [{"a": None, "b": None}]),
        ("/chores?done=is.true&select=id", [{"id": 1}]),
        ("/chores?done=is.FALSE&select=id", [{"id": 2}]),
        ("/chores?done=is.unknown&select=id", [{"id": 3}]),
        ("/entities?or=(id.eq.1,id.eq.2)&select=id", [{"id": 1}, {"id": 2}]),
        ("/entities?not.or=(id.eq.1,id.eq.2)&select=id", [{"id": 3}, {"id": 4}]),
        ("/entities?or=(id.eq.1,id.eq.2)&name=eq.entity 1&select=id", [{"id": 1}]),
        (
            "/entities?and=(id.gte.2,or(name.eq.entity 2,not.and(id.neq.4,id.lt.9)))&select=id",
            [{"id": 2}, {"id": 4}],
        ),
        ('/entities?or=(name.eq."entity 1",name.in.("entity 3",x))&select=id', [{"id": 1}, {"id": 3}]),
    ],
)
def test_filters_choose_rows(spec, path, rows):
    """QuerySpec.hs:60-94, AndOrParamsSpec.hs:16-24"""
    answer = spec.ask("GET", path)
    assert (answer.status_code, answer.json()) == (200, rows)
    assert answer.headers["Content-Range"] == f"0-{len(rows) - 1}/*"
    assert answer.headers["Content-Type"] == JSON


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ('"Hebdon, John"', {"Hebdon, John"}),
        ('"Hebdon, John","Williams, Mary"', {"Hebdon, John", "Williams, Mary"}),
        ('David White,"Hebdon, John"', {"David White", "Hebdon, John"}),
        ('"Double O Seven(007)"', {"Double O Seven(007)"}),
        (r'"Double\"Quote\"McGraw\""', {'Double"Quote"McGraw"'}),
        (r'"\\"', {"\\"}),
        (r'"/\\Slash/\\Beast/\\"', {"/\\Slash/\\Beast/\\"}),
        (r'"D\a\vid W\h\ite"', {"David White"}),
        ('"', {'"'}),
        ('Double"Quote"McGraw"', {'Double"Quote"McGraw"'}),
        ("\\", {"\\"}),
        (r"/\Slash/\Beast/\ ".strip(), {"/\\Slash/\\Beast/\\"}),
    ],
)
def test_values_in_a_list_may_be_quoted(spec, values, names):
    """QuerySpec.hs:1300-1351"""
    rows = spec.ask("GET", f"/w_or_wo_comma_names?name=in.({values})").json()
    assert {row["name"] for row in rows} == names


@pytest.mark.parametrize("column", ["int_data", "text_data", "bool_data", "date_data"])
def test_nothing_is_in_an_empty_list(spec, column):
    """QuerySpec.hs:1353-1392"""
    path = f"/items_with_different_col_types?select=int_data&{column}"
    assert spec.ask("GET", f"{path}=in.()").json() == []
    assert spec.ask("GET", f"{path}=in.(    )").json() == []
    assert spec.ask("GET", f"{path}=not.in.()").json() == [{"int_data": 1}]


def test_an_empty_value_among_others_is_a_value(spec):
    """QuerySpec.hs:1394-1400"""
    answer = spec.ask("GET", "/items_with_different_col_types?int_data=in.( ,3,4)")
    assert answer.status_code == 400
    assert answer.json() == error("22P02", 'invalid input syntax for type integer: ""')


def test_a_column_that_does_not_exist_is_postgresqls_to_tell(spec):
    """QuerySpec.hs:1556-1559"""
    answer = spec.ask("GET", "/datarep_todos?select=id,label_color,banana")
    assert answer.status_code == 400
    assert answer.json() == error("42703", "column datarep_todos.banana does not exist")
    assert answer.headers["Content-Length"] == "98"


# Query/RpcSpec.hs


def guc(spec, name, prefix=None, **request):
    body = {"name": name} | ({"prefix": prefix} if prefix else {})
    answer = spec.ask("POST", "/rpc/get_guc_value", body, **request)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JSON)
    return answer.json()


def test_the_database_sees_the_request(spec):
    """RpcSpec.hs:871-945"""
    token = spec.jwt(role=AUTHOR)
    assert guc(spec, "custom-header", "request.headers", Custom_Header="test") == "test"
    assert guc(spec, "origin", "request.headers", Origin="http://example.com") == "http://example.com"
    assert guc(spec, "authorization", "request.headers", token=token) == f"Bearer {token}"
    assert guc(spec, "role", "request.jwt.claims") == "postgrest_test_anonymous"
    assert guc(spec, "role", "request.jwt.claims", token=token) == AUTHOR
    assert guc(spec, "acookie", "request.cookies", Cookie="acookie=cookievalue") == "cookievalue"
    cookies = "acookie=cookievalue;secondcookie=anothervalue"
    assert guc(spec, "secondcookie", "request.cookies", Cookie=cookies) == "anothervalue"
    assert guc(spec, "cookie", "request.headers", Cookie=cookies) is None
    assert guc(spec, "request.method") == "POST"
    assert guc(spec, "request.path") == "/rpc/get_guc_value"
    assert guc(spec, "search_path") == '"test"'


# Query/MultipleSchemaSpec.hs


def test_a_profile_chooses_the_schema_and_is_confirmed(cluster, database):
    """MultipleSchemaSpec.hs:70-97, 235-252 (there with the parent embedded)"""
    schemas = ["test", "v1", 'SPECIAL "@/\\#~_-']
    with serving(cluster, database, schemas=schemas) as rest, httpx.Client() as client:
        spec = Spec(rest, client)
        path, body = "/children?select=name&id=eq.1", {"name": "child v1-1 updated"}
        answer = spec.ask("PATCH", path, body, prefer="return=representation", Content_Profile="v1")
        assert (answer.status_code, answer.json()) == (200, [body])
        assert answer.headers["Content-Profile"] == "v1"
        assert spec.ask("GET", "/items?id=eq.1").headers["Content-Profile"] == "test"
        answer = spec.ask("GET", "/names?select=name&id=eq.1", Accept_Profile='SPECIAL "@/\\#~_-')
        assert answer.json() == [{"name": "John"}]
        answer = spec.ask("GET", "/items", Accept_Profile="v1")
        assert answer.json() == error("PGRST205", "Could not find the table 'v1.items' in the schema cache")
        answer = spec.ask("GET", "/parents", Accept_Profile="unknown")
        assert answer.status_code == 406
        hint = 'Only the following schemas are exposed: test, v1, SPECIAL "@/\\#~_-'
        assert answer.json() == error("PGRST106", "Invalid schema: unknown", None, hint)


def test_one_schema_is_not_worth_a_header(spec):
    """MultipleSchemaSpec.hs; Response.hs, profileHeader"""
    assert "Content-Profile" not in spec.ask("GET", "/items").headers
    assert spec.ask("GET", "/items", Accept_Profile="test").headers["Content-Profile"] == "test"
