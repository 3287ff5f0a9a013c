"""Attacks on jobs over real HTTP: each gains nothing here, and its control gains it where nothing bars it."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from contextlib import contextmanager
from urllib.parse import quote

import psycopg
import pytest

from agent.sandbox.rest.server import JWT_SECRET
from tests.wire.attacker import (
    ADA,
    ATTACKS,
    CHANGING,
    COUNTING,
    DONE,
    EVENT,
    EVENTS,
    GUESSING,
    JOBS,
    MALLORY,
    MERGE,
    NO_JOB,
    NOTE,
    ONE,
    ONE_OF_EACH,
    READING,
    REP,
    TELLING,
    TOKEN,
    TRAIL,
    Attack,
    Attacker,
    attacks,
    guessing,
    platform,
    reading,
    setting,
)


def nobody(platform):
    return Attacker(platform, {})


def public_key(platform):
    return Attacker(platform, {"apikey": platform.rest.publishable_key})


def legacy_key(platform):
    key = platform.rest.anon_key
    return Attacker(platform, {"apikey": key, "Authorization": f"Bearer {key}"})


def bearer(platform, token, own=NO_JOB):
    headers = {"apikey": platform.rest.publishable_key, "Authorization": f"Bearer {token}"}
    return Attacker(platform, headers, own)


def pod(platform, job, own=NO_JOB):
    return Attacker(platform, {"apikey": platform.rest.publishable_key, "x-job-token": job.token}, own)


def another_pod(platform):
    job = platform.job()
    return pod(platform, job, job.id)


def owner(platform, job):
    return bearer(platform, platform.rest.jwt("authenticated", sub=job.owner))


def another_user(platform, victim):
    """With a job of their own, and with the victim's id wherever a user or an app may put one."""
    claim = {"job_id": victim.id}
    planted = claim | {"user_metadata": claim, "app_metadata": claim}
    token = platform.rest.jwt("authenticated", sub=MALLORY, **planted)
    return bearer(platform, token, platform.job(user_id=MALLORY).id)


@pytest.fixture(scope="module")
def platforms(cluster):
    with (
        platform(cluster, "hardened") as hardened,
        platform(cluster, "today") as today,
        platform(cluster, "naive") as naive,
    ):
        yield {"hardened": hardened, "today": today, "naive": naive}


@pytest.fixture
def hardened(platforms):
    platforms["hardened"].clear()
    return platforms["hardened"]


@pytest.fixture
def weak(platforms):
    """The platforms of the controls."""
    for name in ("today", "naive"):
        platforms[name].clear()
    return platforms


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_gains_nothing(attack, hardened):
    victim, late = hardened.victim(), hardened.victim(job_token_expires_at="2021-01-01")
    other = another_pod(hardened)
    attackers = {
        "the public key": (public_key(hardened), victim),
        "the token of another job": (other, victim),
        "the sign-in of another user": (another_user(hardened, victim), victim),
        "a token that expired": (pod(hardened, late), late),
    }
    before = hardened.state(other.own)
    learned = {held: attacker.learns(attack, aim) for held, (attacker, aim) in attackers.items()}
    assert learned == {held: set() for held in attackers}
    assert hardened.state(other.own) == before


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_works_where_nothing_bars_it(attack, weak):
    """The control: the public key is enough on the table of today, or on what a developer might add to it."""
    attacked = weak[attack.where]
    assert attack.gain in public_key(attacked).gains(attack, attacked.victim())


@pytest.mark.parametrize("who", [nobody, legacy_key])
def test_the_legacy_key_or_none_at_all_gains_no_more(who, hardened):
    victim = hardened.victim()
    assert [who(hardened).gains(attack, victim) for attack in ONE_OF_EACH] == [set()] * 6


@pytest.mark.parametrize(("who", "gained"), [(nobody, 0), (legacy_key, 6)])
def test_the_legacy_key_gains_all_the_same_where_nothing_bars_it(who, gained, weak):
    """The control; without a key nobody comes past the gateway, whatever lies behind it."""
    victim = weak["naive"].victim()
    gains = [attack.gain in who(weak["naive"]).gains(attack, victim) for attack in ONE_OF_EACH]
    assert gains.count(True) == gained


def test_what_the_attackers_hold_is_genuine(hardened):
    """The control of the attackers: each opens what is its own, and the token did so until it expired."""
    victim, look = hardened.victim(), f"GET {JOBS}?select=id"
    for intruder in (another_pod(hardened), another_user(hardened, victim)):
        assert intruder.ask(look).json() == [{"id": intruder.own}]
    for holder in (pod(hardened, victim), owner(hardened, victim)):
        assert holder.ask(look).json() == [{"id": victim.id}]
    hardened.sql(f"update {JOBS} set job_token_expires_at = '2021-01-01'")
    assert pod(hardened, victim).ask(look).json() == []


# Tokens that the project did not sign


def forged(claims, key="", **header):
    """A token as whoever has no more than this key can make it."""
    header = {"alg": "HS256", "typ": "JWT"} | header
    parts = [json.dumps(part).encode() for part in (header, claims)]
    signed = b".".join(map(base64url, parts))
    signature = hmac.new(key.encode(), signed, "sha256").digest()
    return b".".join([signed, base64url(signature)]).decode()


def base64url(text):
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def without_signature(token):
    return token.rpartition(".")[0]


def signed_by(token, claims):
    return f"{without_signature(forged(claims))}.{token.rpartition('.')[2]}"


FORGERIES = {
    "signed with another secret": lambda rest, claims: forged(claims, "x" * 56),
    "signed with the public key": lambda rest, claims: forged(claims, rest.publishable_key),
    "signed with the legacy key": lambda rest, claims: forged(claims, rest.anon_key),
    "signed with nothing": lambda rest, claims: forged(claims),
    "signed by the legacy key": lambda rest, claims: signed_by(rest.anon_key, claims),
    "not signed": lambda rest, claims: without_signature(forged(claims, alg="none")) + ".",
    "not signed, in capitals": lambda rest, claims: without_signature(forged(claims, alg="NONE")) + ".",
    "of no algorithm": lambda rest, claims: forged(claims, alg=None),
    "without its signature": lambda rest, claims: without_signature(rest.jwt(**claims)) + ".",
    "in two parts": lambda rest, claims: without_signature(rest.jwt(**claims)),
    "with the key of an empty file": lambda rest, claims: forged(claims, kid="../../dev/null"),
    "with a key of its own": lambda rest, claims: forged(claims, "\0\0\0", jwk={"kty": "oct", "k": "AAAA"}),
    "with a key from elsewhere": lambda rest, claims: forged(
        claims, alg="RS256", jku="https://evil.example/keys"
    ),
    "expired": lambda rest, claims: rest.jwt(**claims, exp=1),
    "from the future": lambda rest, claims: rest.jwt(**claims, nbf=10**11),
    "for nobody": lambda rest, claims: rest.jwt(**claims, aud=[7]),
}
CLAIMS = {
    "service_role": ({"role": "service_role"}, DONE),
    "the pod": ({"role": "anon", "job_id": "{id}"}, DONE),
    "the owner": ({"role": "authenticated", "sub": "{owner}"}, {"status": "cancelled"}),
}


def attacks_as(who, victim):
    """The claims of somebody who may do something, and attacks that do it."""
    claims, change = CLAIMS[who]
    look = Attack("look", "told apart", f"GET {ONE}&select=id")
    touch = Attack("touch", "changed", f"PATCH {ONE}", change)
    return json.loads(victim.named_in(json.dumps(claims))), (look, touch)


@pytest.mark.parametrize("who", CLAIMS)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_opens_nothing(forgery, who, hardened):
    victim = hardened.victim()
    claims, attempts = attacks_as(who, victim)
    forger = bearer(hardened, FORGERIES[forgery](hardened.rest, claims))
    assert [forger.gains(attempt, victim) for attempt in attempts] == [set(), set()]
    assert {answer.status_code for answer in forger.heard} == {401}


@pytest.mark.parametrize("who", CLAIMS)
def test_the_same_claims_open_what_they_name_once_the_project_signs_them(who, hardened):
    """The control: only the right key was missing."""
    victim = hardened.victim()
    claims, attempts = attacks_as(who, victim)
    holder = bearer(hardened, forged(claims, JWT_SECRET))
    assert all(attempt.gain in holder.gains(attempt, victim) for attempt in attempts)


# Columns and events that are the platform's, whoever asks

SECRETS = {"job_token": TOKEN, "job_token_hash": "\\x00", "job_token_expires_at": "2200-01-01"}
SMUGGLED = (
    ('[{"job_token": "t"}]', "", {}),
    ('{"job\\u005ftoken": "t"}', "", {}),
    ('{"job_token": null, "job_token": "t"}', "", {}),
    ('{"loss": 1, "job_token": "t"}', "&columns=loss,job_token", {}),
    ('{"loss": 1, "job_token": "t"}', "&select=id", REP),
    ('{"loss": 1, "job_token": "t"}', "", {"Prefer": "missing=default, tx=commit, handling=lenient"}),
)
FORGED = {
    "id": 7,
    "source": "trigger",
    "event": "status_changed",
    "from_status": "running",
    "to_status": "completed",
    "actor_role": "service_role",
    "request_id": "forged",
    "created_at": "1970-01-01",
}
OF_THE_PLATFORM = [
    *attacks("read", "naive", {"read all columns": f"GET {ONE}"} | reading(*SECRETS)),
    *attacks("told apart", "naive", guessing(*(f"{column}=not.is.null" for column in SECRETS))),
    *attacks("told apart", "naive", guessing(*(f"order={column}" for column in SECRETS))),
    *attacks(
        "read",
        "naive",
        {
            f"have {column} returned": (f"PATCH {ONE}&select={column}", {"status": "cancelled"}, REP)
            for column in SECRETS
        },
    ),
    *attacks(
        "changed",
        "naive",
        setting(**SECRETS, user_id=MALLORY, config={}, created_at="1970-01-01")
        | {f"clear {column}": (f"PATCH {ONE}", {column: None}) for column in SECRETS}
        | {f"send {body}{query}": (f"PATCH {ONE}{query}", body, headers) for body, query, headers in SMUGGLED}
        | {
            f"forge {column}": (f"POST {EVENTS}", EVENT | {column: value}) for column, value in FORGED.items()
        },
    ),
    *(
        attack
        for attack in TELLING
        if attack.request.startswith(("PATCH", "DELETE")) or attack.headers == MERGE
    ),
]


@pytest.mark.parametrize("attack", OF_THE_PLATFORM, ids=str)
@pytest.mark.parametrize("who", [pod, owner])
def test_what_is_the_platforms_is_kept_from_the_pod_and_the_owner_too(who, attack, hardened):
    victim = hardened.victim()
    assert attack.gain not in who(hardened, victim).gains(attack, victim)


@pytest.mark.parametrize("attack", OF_THE_PLATFORM, ids=str)
@pytest.mark.parametrize("who", [pod, owner])
def test_what_is_the_platforms_is_theirs_where_nothing_bars_it(who, attack, weak):
    """The control."""
    victim = weak["naive"].victim()
    assert attack.gain in who(weak["naive"], victim).gains(attack, victim)


# Addresses that a pod gives to its own job

ELSEWHERE = [
    "https://evil.example/ada/model",
    "https://huggingface.co.evil.example/ada/model",
    "https://huggingface.co@evil.example/ada/model",
    "https://huggingface.co:pass@evil.example/ada/model",
    "https://huggingface.co:8443/ada/model",
    "https://evil.example/https://huggingface.co/ada/model",
    "https://evil.example#https://huggingface.co/ada/model",
    "https://evil.example\\@huggingface.co/ada/model",
    "https://huggingface.co\\.evil.example/ada/model",
    "https://huggingface.co\\evil.example/ada/model",
    "https://huggingface.co",
    "https://huggingface.co/",
    "https://huggingface.co//evil.example/model",
    "https://huggingface.co/ada//model",
    "https://huggingface.co/ada/../../evil/model",
    "https://huggingface.co/./ada/model",
    "https://huggingface.co/ada/model/",
    "https://huggingface.co/ada/model?next=https://evil.example",
    "https://huggingface.co/ada/model#@evil.example",
    "https://huggingface.co/ada/model\\..\\..",
    "https://huggingface.co/ada/mo del",
    "https://huggingface.co/ada/model\n",
    "https://huggingface.co/ada/model\nhttps://evil.example",
    "\nhttps://huggingface.co/ada/model",
    " https://huggingface.co/ada/model",
    "https://huggingface.co/ada/model\t",
    "https://huggingface.co/ada/model\u2028x",
    'https://huggingface.co/ada/"onmouseover="alert(1)',
    "https://huggingface.co/ada/'model",
    "https://huggingface.co/ada/<script>alert(1)</script>",
    "https://huggingface.co/ada/mod\u0435l",
    "https://huggingfac\u0435.co/ada/model",
    "https://huggingface\uff0eco/ada/model",
    "https://huggingface.co\u2215ada/model",
    "HTTPS://huggingface.co/ada/model",
    "https://HUGGINGFACE.CO/ada/model",
    "http://huggingface.co/ada/model",
    "//huggingface.co/ada/model",
    "huggingface.co/ada/model",
    "ftp://huggingface.co/ada/model",
    "javascript:alert(1)//https://huggingface.co/ada/model",
    "data:text/html,<script>alert(1)</script>",
    f"https://huggingface.co/ada/{'m' * 600}",
    "",
]
ON_THE_HUB = [
    "https://huggingface.co/ada/model",
    "https://huggingface.co/ada/_model-1.5~b/tree/feature%2Fx",
    f"https://huggingface.co/ada/{'m' * (512 - len('https://huggingface.co/ada/'))}",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_pod_cannot_point_its_job_elsewhere(address, hardened):
    for job in (hardened.job(), hardened.job(**DONE)):
        before = hardened.row(job.id)
        answer = pod(hardened, job).ask(f"PATCH {JOBS}?id=eq.{job.id}", {"model_url": address})
        assert (answer.status_code, answer.json()["message"]) == (400, "model_url is not on an allowed Hub")
        assert hardened.row(job.id) == before


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_pod_can_point_its_job_anywhere_where_nothing_bars_it(address, weak):
    """The control: the table of today."""
    own = another_pod(weak["today"])
    assert own.ask(f"PATCH {JOBS}?id=eq.{own.own}", {"model_url": address}).is_success
    assert weak["today"].row(own.own)["model_url"] == address


@pytest.mark.parametrize("address", ON_THE_HUB)
def test_a_pod_can_point_its_job_to_the_hub(address, hardened):
    own = another_pod(hardened)
    assert own.ask(f"PATCH {JOBS}?id=eq.{own.own}", {"model_url": address}).is_success
    assert hardened.row(own.own)["model_url"] == address


def pointed_by_event(platform, address):
    own = another_pod(platform)
    own.ask(
        f"POST {EVENTS}", {"job_id": own.own, "event_key": "k", "event": "verified", "model_url": address}
    )
    return [row["model_url"] for row in platform.sql(f"select model_url from {EVENTS}")]


@pytest.mark.parametrize("address", [ELSEWHERE[0], "javascript:alert(1)"])
def test_an_event_does_not_point_elsewhere(address, hardened):
    assert pointed_by_event(hardened, address) == []


def test_an_event_points_to_the_hub(hardened):
    assert pointed_by_event(hardened, ON_THE_HUB[0]) == [ON_THE_HUB[0]]


def test_an_event_points_anywhere_where_nothing_bars_it(weak):
    """The control."""
    assert pointed_by_event(weak["naive"], ELSEWHERE[0]) == [ELSEWHERE[0]]


# Texts that would be SQL, wherever a text can be sent

DAMAGE = f"update {JOBS} set loss = 1; --"
PAYLOADS = {
    f"'; {DAMAGE}": "in_quotes",
    f"\\'; {DAMAGE}": "with_doubled_quotes",
    f"$$; {DAMAGE}": "in_dollars",
}
PLACES_IN_A_QUERY = (
    "id=eq.{0}",
    "status=eq.{0}",
    "status=neq.{0}",
    "status=like.{0}*",
    "status=match.{0}",
    "status=isdistinct.{0}",
    "status=fts.{0}",
    "status=fts({0}).running",
    "status=in.({0})",
    'status=in.("{0}")',
    "status=eq(any).{{{0}}}",
    "status=is.{0}",
    "status={0}",
    "or=(status.eq.{0},id.is.null)",
    'and=(status.eq."{0}")',
    "and={0}",
    "{0}=eq.1",
    "status->>{0}=eq.1",
    "select={0}",
    "select=id::{0}",
    "select={0}:id",
    'select="{0}":id',
    "select=status->>{0}",
    "order={0}",
    "order=status->>{0}",
    "columns={0}",
    "on_conflict={0}",
    "limit={0}",
    "offset={0}",
)
HEADERS = {
    "x-job-token": "{0}",
    "Authorization": "Bearer {0}",
    "apikey": "{0}",
    "Prefer": "timezone={0}",
    "Accept": "application/json, {0}",
    "Accept-Profile": "{0}",
    "Content-Profile": "{0}",
    "Content-Type": "{0}",
    "Range": "{0}",
    "X-Request-Id": "{0}",
    "X-HTTP-Method-Override": "{0}",
    "Forwarded": "for={0}",
    "User-Agent": "{0}",
    "Cookie": "x={0}",
}


@contextmanager
def unharmed(platform, attacker):
    """Nothing but the attacker's own changes, no server fails, and none reads his words as SQL."""
    victim = platform.victim()
    before = platform.state(attacker.own)
    yield
    assert platform.state(attacker.own) == before
    assert attacker.heard
    for answer in attacker.heard:
        assert answer.status_code < 500, answer.text
        assert "syntax error at or near" not in answer.text
        assert not [value for value in victim.values if value in answer.text]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_sql_in_a_field_is_a_text_or_is_refused(payload, hardened):
    own = another_pod(hardened)
    row, event = f"PATCH {JOBS}?id=eq.{own.own}", EVENT | {"job_id": own.own}
    kept = {"error_message": payload, "result_note": payload}
    told = {"event_key": payload, "repo_id": payload, "detail": {payload: payload}}
    with unharmed(hardened, own):
        assert own.ask(row, kept).status_code == 204
        assert own.ask(f"POST {EVENTS}", event | told, {"X-Request-Id": payload}).status_code == 201
        for column in ("status", "progress", "model_url", "failure_stage", "started_at", payload):
            assert own.ask(row, {column: payload}).is_client_error, column
        for column in ("job_id", "event", "commit_sha", "bytes", "attempt", "happened_at", payload):
            assert own.ask(f"POST {EVENTS}", event | {column: payload}).is_client_error, column
    assert kept.items() <= hardened.row(own.own).items()
    (event,) = hardened.sql(f"select * from {EVENTS} where job_id = %s", own.own)
    assert (told | {"request_id": payload}).items() <= event.items()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_sql_in_a_note_is_a_text(payload, hardened):
    own = another_pod(hardened)
    hardened.sql(f"update {JOBS} set status = 'completed', progress = 100 where id = %s", own.own)
    with unharmed(hardened, own):
        assert own.ask(f"POST {NOTE}", {"job": own.own, "note": payload}).json() is True
        for body in ({"job": payload, "note": "x"}, {"job": own.own, payload: "x"}):
            assert own.ask(f"POST {NOTE}", body).is_client_error
    assert hardened.row(own.own)["result_note"] == payload


def test_a_note_is_not_added_by_a_link(hardened):
    """Whoever gets a pod to follow an address has it change nothing."""
    own = another_pod(hardened)
    before = hardened.row(own.own)
    answer = own.ask(f"GET {NOTE}?job={own.own}&note=x")
    assert (answer.status_code, answer.json()["code"]) == (405, "25006")
    assert hardened.row(own.own) == before


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST"])
@pytest.mark.parametrize("payload", [*PAYLOADS, "\0'; --"])
def test_sql_in_a_query_is_no_sql(payload, method, hardened):
    own, wish = another_pod(hardened), {"Prefer": "resolution=merge-duplicates, return=representation"}
    body = {"GET": None, "PATCH": {"loss": 2}, "POST": EVENT | {"job_id": own.own}}[method]
    with unharmed(hardened, own):
        for place in PLACES_IN_A_QUERY:
            query = place.format(quote(payload)).replace('"', "%22")
            own.ask(f"{method} {EVENTS if method == 'POST' else JOBS}?{query}", body, wish)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_sql_in_a_header_is_no_sql(payload, hardened):
    own = another_pod(hardened)
    genuine = own.headers
    with unharmed(hardened, own):
        for name, value in HEADERS.items():
            own.headers = {held: genuine[held] for held in genuine if held != name}
            own.ask(f"GET {JOBS}?select=id", None, {name: value.format(payload)})
            own.ask(f"PATCH {JOBS}?id=eq.{own.own}", {"loss": 2}, {name: value.format(payload)})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_sql_does_its_damage_where_it_is_pasted(payload, weak):
    """The control: a function that pastes its argument, in the quotes that the payload is made for."""
    paste = Attack("paste", "changed", f"POST rpc/{PAYLOADS[payload]}", json.dumps({"value": payload}))
    assert "changed" in public_key(weak["naive"]).gains(paste, weak["naive"].victim())


def test_a_token_does_its_damage_where_it_is_pasted(weak):
    """The control of the headers."""
    paste = Attack("paste", "changed", "POST rpc/by_header", {}, {"x-job-token": "' or true --"})
    assert "changed" in public_key(weak["naive"]).gains(paste, weak["naive"].victim())


# JSON that is not what it seems

BIG = "9" * 400
KEPT = {
    '{"error_message": {"a": [1, "x"]}}': ("error_message", '{"a": [1, "x"]}'),
    '{"error_message": ["a"]}': ("error_message", '["a"]'),
    '{"error_message": 1e5}': ("error_message", "1e5"),
    '{"error_message": "a", "error_message": "b"}': ("error_message", "b"),
    '{"error_message": "\\ud83d\\ude00"}': ("error_message", "\U0001f600"),
    '{"error_message": "{\\"status\\": \\"completed\\"}"}': ("error_message", '{"status": "completed"}'),
    '{"result_note": "\\\\u0000"}': ("result_note", "\\u0000"),
    '{"current_step": "7"}': ("current_step", 7),
    '{"progress": 12, "progress": 11}': ("progress", 11.0),
}
REFUSED = {
    "": "PGRST102",
    "{": "PGRST102",
    '{"progress": NaN}': "PGRST102",
    '{"progress": -Infinity}': "PGRST102",
    "{'progress': 11}": "PGRST102",
    '[{"progress": 11}, {"status": "failed"}]': "PGRST102",
    f'{{"error_message": {"[" * 100_000}}}': "PGRST102",
    '{"__proto__": {"status": "completed"}}': "PGRST204",
    '{"constructor": 1}': "PGRST204",
    '{"JOB_TOKEN": "t"}': "PGRST204",
    '{"": 1}': "PGRST204",
    '{"error_message": "\\u0000"}': "22P05",
    '{"error_message": "\\ud800"}': "22P02",
    '{"progress": true}': "22P02",
    '{"progress": 1e400}': "22003",
    f'{{"current_step": {BIG}}}': "22003",
    '{"status": null}': "23502",
    '{"status": "running", "status": "completed"}': "23514",
}
SWALLOWED_TODAY = {
    '{"progress": 1e308}': "23514",
    '{"progress": -1}': "PT409",
    '{"progress": "NaN"}': "23514",
    '{"progress": "Infinity"}': "23514",
    '{"progress": null}': "PT409",
    '{"status": ["completed"]}': "PT409",
    '{"status": "Completed"}': "PT409",
    '{"model_url": {"a": 1}}': "23514",
    '{"status": "completed", "progress": 99.999}': "23514",
    '{"completed_at": "1970-01-01"}': "42501",
    json.dumps({"error_message": "x" * 8001}): "23514",
}


def patched(platform, body):
    own = another_pod(platform)
    with unharmed(platform, own):
        answer = own.ask(f"PATCH {JOBS}?id=eq.{own.own}", body)
    return answer, platform.row(own.own)


@pytest.mark.parametrize("body", KEPT)
def test_json_where_a_value_is_wanted_is_kept_as_it_is_written(body, hardened):
    column, value = KEPT[body]
    answer, row = patched(hardened, body)
    assert (answer.status_code, row[column]) == (204, value)
    assert (row["status"], row["user_id"]) == ("running", uuid.UUID(ADA))


@pytest.mark.parametrize("body", REFUSED | SWALLOWED_TODAY, ids=lambda body: body[:60])
def test_json_that_makes_no_sense_changes_nothing(body, hardened):
    answer, row = patched(hardened, body)
    assert answer.json()["code"] == (REFUSED | SWALLOWED_TODAY)[body]
    assert (row["status"], row["progress"], row["error_message"]) == ("running", 10, None)


@pytest.mark.parametrize("body", SWALLOWED_TODAY, ids=lambda body: body[:60])
def test_nonsense_is_swallowed_where_nothing_bars_it(body, weak):
    """The control: the table of today takes it."""
    own = another_pod(weak["today"])
    before = weak["today"].row(own.own)
    assert own.ask(f"PATCH {JOBS}?id=eq.{own.own}", body).status_code == 204
    assert weak["today"].row(own.own) != before


# Headers that are not what they seem

TRICKS = {
    "no token": [],
    "an empty token": [("x-job-token", "")],
    "null": [("x-job-token", "null")],
    "a short token": [("x-job-token", "t" * 31)],
    "a long token": [("x-job-token", "t" * 7000)],
    "a list": [("x-job-token", f'["{TOKEN}"]')],
    "an object": [("x-job-token", json.dumps({"x-job-token": TOKEN}))],
    "quotes": [("x-job-token", '"' * 43)],
    "backslashes": [("x-job-token", "\\" * 43)],
    "an escaped NUL": [("x-job-token", "\\u0000" * 8)],
    "a pattern": [("x-job-token", "%" * 43)],
    "another pattern": [("x-job-token", "*" * 43)],
    "letters of two bytes": [("x-job-token", ("\u00fc" * 43).encode())],
    "two tokens": [("x-job-token", TOKEN), ("X-JOB-TOKEN", "u" * 43)],
    "two tokens in one": [("x-job-token", f"{TOKEN}, {TOKEN}")],
    "another name": [("x_job_token", TOKEN), ("job-token", TOKEN)],
    "a cookie": [("Cookie", f"x-job-token={TOKEN}")],
    "a way around": [("Forwarded", "for=127.0.0.1"), ("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "::1")],
    "another method": [("X-HTTP-Method-Override", "DELETE"), ("X-Method-Override", "PUT")],
    "another address": [
        ("X-Original-URL", "/rest/v1/rpc/x"),
        ("X-Rewrite-URL", "/"),
        ("X-Forwarded-Host", "x"),
    ],
    "another role": [("role", "service_role"), ("X-Role", "service_role"), ("request.jwt.claims", "{}")],
    "two authorizations": [("Authorization", "Basic c2VydmljZV9yb2xl"), ("Authorization", "Bearer x")],
    "no text at all": [("x-noise", b"\xff")],
}


def tricks_on(platform, headers):
    victim = platform.victim()
    trickster = Attacker(platform, [("apikey", platform.rest.publishable_key), *headers])
    gains = [trickster.gains(attack, victim) for attack in (READING[0], CHANGING[0])]
    return gains, [answer for answer in trickster.heard if answer.is_server_error]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_header_opens_nothing(trick, hardened):
    assert tricks_on(hardened, TRICKS[trick]) == ([set(), set()], [])


@pytest.mark.parametrize("trick", TRICKS)
def test_a_header_keeps_no_attack_from_working(trick, weak):
    """The control: with the same headers the same attacks succeed on the table of today."""
    (read, changed), _ = tricks_on(weak["today"], TRICKS[trick])
    assert ("read" in read, "changed" in changed) == (True, True)


@pytest.mark.parametrize("spoil", [str.upper, str.lower, lambda token: token[:-1], lambda token: token + "x"])
def test_a_token_opens_its_row_only_as_it_is(spoil, hardened):
    victim, look = hardened.victim(), f"GET {JOBS}?select=id"
    holder = pod(hardened, victim)
    assert holder.ask(look).json() == [{"id": victim.id}]
    holder.headers["x-job-token"] = spoil(victim.token)
    assert holder.ask(look).json() == []


# What is opened later, or by another door

AIMED_AT_THE_ROW = [*READING, *COUNTING, *GUESSING, *CHANGING]
OPENED = (
    f'create policy "Open" on {JOBS} for all to anon using (true) with check (true)',
    f"grant all on {JOBS} to anon",
)


def gained(intruder, victim):
    """What comes of all attacks on the row."""
    before = intruder.platform.state(intruder.own)
    learned = {attack.name for attack in AIMED_AT_THE_ROW if intruder.learns(attack, victim)}
    return learned if intruder.platform.state(intruder.own) == before else learned | {"changed"}


def test_the_migrations_close_what_stood_wide_open(cluster):
    """The control is the naive platform: it has the same policy."""
    with platform(cluster, "mended") as mended:
        mended.clear()
        victim = mended.victim()
        intruders = (another_pod(mended), another_user(mended, victim))
        assert [gained(intruder, victim) for intruder in intruders] == [set(), set()]


def test_what_a_developer_opens_later_opens_no_row_to_the_anonymous(cluster):
    with platform(cluster, "hardened") as later:
        later.clear()
        victim = later.victim()
        for statement in OPENED:
            later.sql(statement)
        assert gained(another_pod(later), victim) == set()


def test_what_a_developer_opens_later_opens_everything_without_the_policy_that_restricts(cluster):
    """The control: the same statements on the table of today, with none of its weak policies."""
    aimed_at_the_row = [READING[0], READING[1], COUNTING[0], CHANGING[0]]
    with platform(cluster, "today") as later:
        later.clear()
        victim = later.victim()
        for policy in later.sql("select policyname from pg_policies where tablename = %s", JOBS):
            later.sql(f'drop policy "{policy["policyname"]}" on {JOBS}')
        intruder = another_pod(later)
        assert [intruder.gains(attack, victim) for attack in aimed_at_the_row] == [set()] * 4
        for statement in OPENED:
            later.sql(statement)
        assert all(attack.gain in intruder.gains(attack, victim) for attack in aimed_at_the_row)


@pytest.mark.parametrize(("kind", "told"), [("hardened", 0), ("today", 2)])
def test_a_column_that_is_added_later_is_told_to_nobody(kind, told, cluster):
    """The control is the table of today, which tells its pod and its owner."""
    with platform(cluster, kind) as later:
        later.clear()
        victim = later.victim()
        later.sql(f"alter table {JOBS} add secret text default 'planted later'")
        answers = [who(later, victim).ask(f"GET {JOBS}?select=secret") for who in (pod, owner)]
        assert len([answer for answer in answers if "planted later" in answer.text]) == told


PASTING = {"in_quotes", "with_doubled_quotes", "in_dollars", "by_header"}


@pytest.mark.parametrize(
    ("kind", "callable_by_all"),
    [
        ("hardened", {"agent_migrations", "note_on_job"}),
        ("naive", {"mark_stale_jobs", "note_on_job", *PASTING}),
    ],
)
def test_everybody_may_call_two_functions(kind, callable_by_all, platforms):
    """The control are functions with the rights that a function has to begin with."""
    in_the_api = """
      select proname from pg_proc, unnest(array['anon', 'authenticated']) as role
      where pronamespace = 'public'::regnamespace and has_function_privilege(role, oid, 'execute')"""
    assert {row["proname"] for row in platforms[kind].sql(in_the_api)} == callable_by_all


@pytest.mark.parametrize(
    ("kind", "led"),
    [("hardened", set()), ("naive", {"mark_stale_jobs", "note_on_job", "tokens", *PASTING})],
)
def test_a_function_that_runs_as_its_owner_is_not_led_to_tables_of_another_schema(kind, led, platforms):
    """The control are functions that look names up wherever whoever calls them says."""
    led_by_the_caller = """
      select proname from pg_proc where pronamespace in ('public'::regnamespace, 'private'::regnamespace)
        and prosecdef and not coalesce(proconfig, '{}') @> '{"search_path=\\"\\""}'"""
    assert {row["proname"] for row in platforms[kind].sql(led_by_the_caller)} == led


# As PostgREST writes it for /model_upload_events?select=event,local_training_jobs(…)
EMBEDDED = f"""
select e.event, j.* from {EVENTS} e
left join lateral (select {{columns}} from {JOBS} t where t.id = e.job_id) j on true
"""


def embedded(platform, columns, token):
    """What a role reads of a job through an event of it; the embedded service has no such requests."""
    with platform.as_anonymous(token) as ask:
        return ask(EMBEDDED.format(columns=columns))


def test_a_job_is_not_read_through_its_events(hardened):
    hardened.victim()
    own = hardened.job()
    hardened.insert(EVENTS, job_id=own.id, event_key="k", event="started")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        embedded(hardened, "t.*", own.token)
    rows = embedded(hardened, "t.id, t.user_id, t.model_name", own.token)
    assert [str(row["id"]) for row in rows] == [own.id]
    assert embedded(hardened, "t.id, t.user_id, t.model_name", "no-token") == []


def test_a_job_is_read_through_its_events_where_nothing_bars_it(weak):
    """The control: events that everybody reads, and the policies of today."""
    victim = weak["naive"].victim()
    (row,) = embedded(weak["naive"], "t.*", "no-token")
    assert row["job_token"] == victim.token


# What the planner knows

RUMOURS = {
    "the events of a job": f"{TRAIL}&select=event",
    "the events of a repo": f"{EVENTS}?repo_id=eq.planted/repo&select=event",
    "all events": f"{EVENTS}?select=event",
    "the jobs of a user": f"{JOBS}?user_id=eq.{{owner}}&select=id",
}
MANY_JOBS = f"""
insert into {JOBS} (user_id, model_name, status) select %s, 'm', 'running' from generate_series(1, 400)
"""
MANY_EVENTS = f"""
insert into {EVENTS} (job_id, event_key, event, repo_id)
select %s, gen_random_uuid(), 'failed', 'planted/repo' from generate_series(1, 400)
"""


def estimates(platform, rumour):
    """What `count=planned` tells a user before and after somebody else has many jobs, and one many events."""
    victim = platform.victim()
    snoop, request = another_user(platform, victim), victim.named_in(f"GET {RUMOURS[rumour]}")

    def told():
        platform.sql("analyze")
        return snoop.ask(request, None, {"Prefer": "count=planned"}).headers["Content-Range"]

    platform.sql(MANY_JOBS, MALLORY)  # an estimate is a share of those that one may see
    quiet = told()
    platform.sql(MANY_JOBS, victim.owner)
    platform.sql(MANY_EVENTS, victim.id)
    return quiet, told()


@pytest.mark.parametrize("rumour", RUMOURS)
def test_the_planner_does_not_tell_how_much_is_hidden(rumour, hardened):
    quiet, loud = estimates(hardened, rumour)
    assert loud == quiet


@pytest.mark.parametrize("rumour", RUMOURS)
def test_the_planner_tells_how_much_there_is_where_nothing_bars_it(rumour, weak):
    """The control."""
    quiet, loud = estimates(weak["naive"], rumour)
    assert loud != quiet
