"""The embedded Hub through HfApi: accounts, repositories, refs, history and listings."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFolder

from agent.sandbox.hub import Hub, commit
from agent.sandbox.hub.scopes import Scope

CARD = b"---\nlicense: mit\ntags: [trl, dpo]\n---\n# A model\n"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    with Hub(root=tmp_path / "hub") as running:
        running.add_user("ada", token="hf_ada", orgs={"lab": "write", "club": "contributor", "guild": "read"})
        running.add_user("ada", token="hf_ada_read", role="read")
        running.add_user("ada", token="hf_ada_fine", role="fineGrained")
        running.add_user("bob", token="hf_bob", orgs={"club": "contributor"})
        yield running


def api_of(hub, token="hf_ada"):
    return HfApi(endpoint=hub.endpoint, token=token)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def status_of(refused):
    return refused.value.response.status_code


def test_whoami_names_the_user_the_token_and_the_organizations(hub):
    me = api_of(hub).whoami()
    assert (me["type"], me["name"], me["auth"]["accessToken"]["role"]) == ("user", "ada", "write")
    assert {org["name"]: org["roleInOrg"] for org in me["orgs"]} == {
        "lab": "write",
        "club": "contributor",
        "guild": "read",
    }
    fine = api_of(hub, "hf_ada_fine").whoami()["auth"]["accessToken"]
    assert fine["role"] == "fineGrained"
    assert [scope["entity"]["name"] for scope in fine["fineGrained"]["scoped"]] == ["ada", "lab"]


@pytest.mark.parametrize(
    ("scope", "reads", "writes", "creates"),
    [
        (Scope("user", "ada", ("repo.write",)), True, True, True),
        (Scope("user", "ada", ("repo.content.write",)), True, True, False),
        (Scope("model", "ada/model", ("repo.content.write",)), True, True, False),
        (Scope("model", "ada/model", ("repo.content.read",)), True, False, False),
        (Scope("model", "ada/other", ("repo.write",)), False, False, False),
        (Scope("org", "lab", ("repo.write",)), False, False, False),
        (Scope("dataset", "ada/model", ("repo.write",)), False, False, False),
    ],
)
def test_a_fine_grained_token_does_what_it_names_and_nothing_else(scope, reads, writes, creates, hub):
    hub.create_repo("ada/model", private=True)
    hub.add_user(
        "ada", token="hf_scoped", role="fineGrained", scopes=[scope], created_at="2026-01-01T00:00:00.000Z"
    )
    api = api_of(hub, "hf_scoped")
    described = api.whoami()["auth"]["accessToken"]
    assert (described["createdAt"], described["fineGrained"]["scoped"]) == (
        "2026-01-01T00:00:00.000Z",
        [scope.as_json()],
    )
    attempts = {
        "reads": lambda: api.model_info("ada/model"),
        "writes": lambda: api.create_branch("ada/model", branch="next"),
        "creates": lambda: api.create_repo("ada/new", private=True),
    }
    refused = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except HfHubHTTPError as error:
            refused[name] = error.response.status_code
    assert refused == (
        ({} if reads else {"reads": 404})
        | ({} if writes else {"writes": 403 if reads else 404})
        | ({} if creates else {"creates": 403})
    )


@pytest.mark.parametrize("token", ["hf_wrong", "hf_ad"])
def test_an_unknown_token_is_refused_everywhere(hub, token):
    with pytest.raises(HfHubHTTPError) as refused:
        api_of(hub, token).whoami()
    assert status_of(refused) == 401
    hub.create_repo("ada/model")
    answer = httpx2.get(f"{hub.endpoint}/api/models/ada/model", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert answer.json() == {"error": "Invalid credentials in Authorization header"}
    assert answer.headers["X-Error-Message"] == "Invalid credentials in Authorization header"
    assert answer.headers["X-Request-Id"]


def test_a_new_repo_has_one_commit_with_gitattributes(hub):
    api = api_of(hub)
    assert api.create_repo("ada/model") == f"{hub.endpoint}/ada/model"
    info = api.model_info("ada/model")
    assert (info.id, info.author, info.private, info.sha) == (
        "ada/model",
        "ada",
        False,
        hub.repo("ada/model").head(),
    )
    assert [sibling.rfilename for sibling in info.siblings] == [".gitattributes"]
    assert [made.title for made in api.list_repo_commits("ada/model")] == ["initial commit"]
    with pytest.raises(KeyError):
        hub.repo("ada/other")


def test_creating_an_existing_repo_conflicts_and_changes_nothing(hub):
    api = api_of(hub)
    api.create_repo("ada/model")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo("ada/model")
    assert status_of(refused) == 409
    assert refused.value.response.json()["url"] == f"{hub.endpoint}/ada/model"
    api.create_repo("ada/model", private=True, exist_ok=True)
    assert hub.repo("ada/model").private is False


def test_visibility_is_honoured_in_both_spellings(hub):
    api_of(hub).create_repo("ada/hidden", private=True)
    assert hub.repo("ada/hidden").private is True
    old = {"name": "older", "organization": "ada", "private": True}
    answer = httpx2.post(
        f"{hub.endpoint}/api/repos/create", json=old, headers={"Authorization": "Bearer hf_ada"}
    )
    assert answer.status_code == 200
    assert hub.repo("ada/older").private is True


@pytest.mark.parametrize(
    "name",
    ["-a", "a-", ".a", "a.", "a--b", "a..b", "a.git", "a b", "a/b", "ä", "", "x" * 97, None],
)
def test_a_bad_repo_name_is_refused(hub, name):
    answer = httpx2.post(
        f"{hub.endpoint}/api/repos/create",
        json={"name": name, "organization": "ada"},
        headers={"Authorization": "Bearer hf_ada"},
    )
    assert answer.status_code == 400
    assert not hub.repos


@pytest.mark.parametrize("name", ["a", "A_b.c-9", "x" * 96, "_a", "0"])
def test_a_good_repo_name_is_taken(hub, name):
    api_of(hub).create_repo(f"ada/{name}")
    assert hub.repo(f"ada/{name}")


@pytest.mark.parametrize(
    ("token", "repo"),
    [
        ("hf_ada_read", "ada/model"),
        ("hf_ada", "bob/model"),
        ("hf_ada", "guild/model"),
        ("hf_ada", "nobody/model"),
    ],
)
def test_creating_without_the_right_is_forbidden(hub, token, repo):
    with pytest.raises(HfHubHTTPError, match="You don't have the rights to create a model") as refused:
        api_of(hub, token).create_repo(repo)
    assert status_of(refused) == 403
    assert repo not in hub.repos


@pytest.mark.parametrize(
    ("token", "repo"),
    [
        ("hf_ada", "lab/model"),
        ("hf_ada", "club/model"),
        ("hf_ada_fine", "ada/model"),
        ("hf_ada_fine", "lab/model"),
    ],
)
def test_creating_with_the_right_succeeds(hub, token, repo):
    api_of(hub, token).create_repo(repo)
    assert hub.repo(repo).creator == "ada"


def writes(api, hub, repo, token):
    """Yield every way to change a repository, as something to call."""
    signed = {"Authorization": f"Bearer {token}"}
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": "0" * 64, "size": 3}]}
    yield lambda: api.create_commit(repo, [CommitOperationAdd("a.txt", b"a")], commit_message="m")
    yield lambda: api.preupload_lfs_files(repo, [CommitOperationAdd("a.bin", b"a\0b")])
    yield lambda: api.create_tag(repo, tag="v1")
    yield lambda: api.create_branch(repo, branch="dev")
    yield lambda: api.delete_tag(repo, tag="v0")
    yield lambda: api.delete_branch(repo, branch="old")
    for method, url, body in (
        ("POST", f"{hub.endpoint}/{repo}.git/info/lfs/objects/batch", batch),
        ("GET", f"{hub.endpoint}/api/models/{repo}/xet-write-token/main", None),
        (
            "POST",
            f"{hub.endpoint}/api/models/{repo}/commit/main",
            {"key": "header", "value": {"summary": "m"}},
        ),
    ):
        yield lambda m=method, u=url, b=body: httpx2.request(m, u, json=b, headers=signed).raise_for_status()


@pytest.mark.parametrize(
    ("token", "private", "expected"),
    [("hf_bob", False, 403), ("hf_ada_read", False, 403), ("hf_ada_read", True, 403), ("hf_bob", True, 404)],
)
def test_no_write_gets_past_a_token_without_the_right(hub, token, private, expected):
    repo = hub.create_repo("ada/model", private=private)
    repo.tags["v0"] = repo.branches["old"] = repo.head()
    attempts = list(writes(api_of(hub, token), hub, "ada/model", token))
    for attempt in attempts:
        with pytest.raises((HfHubHTTPError, httpx2.HTTPStatusError)) as refused:
            attempt()
        assert status_of(refused) == expected
    assert len(repo.every_commit()) == 1
    assert (set(repo.tags), set(repo.branches)) == ({"v0"}, {"main", "old"})


def test_a_contributor_writes_only_to_what_they_created(hub):
    api_of(hub).create_repo("club/hers")
    add = [CommitOperationAdd("a.txt", b"a")]
    api_of(hub).create_commit("club/hers", add, commit_message="m")
    with pytest.raises(HfHubHTTPError) as refused:
        api_of(hub, "hf_bob").create_commit(
            "club/hers", [CommitOperationAdd("b.txt", b"b")], commit_message="m"
        )
    assert status_of(refused) == 403


def test_a_private_repo_is_not_there_for_strangers(hub, tmp_path):
    hub.create_repo("lab/secret", private=True)
    assert api_of(hub).model_info("lab/secret").private is True
    for token, expected in (("hf_bob", 404), (False, 401)):
        with pytest.raises(RepositoryNotFoundError) as refused:
            api_of(hub, token).model_info("lab/secret")
        assert status_of(refused) == expected
        assert refused.value.response.headers["X-Error-Code"] == "RepoNotFound"
        with pytest.raises(RepositoryNotFoundError):
            api_of(hub, token).hf_hub_download("lab/secret", ".gitattributes", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api_of(hub).model_info("lab/missing")


def test_a_public_repo_is_read_without_a_token(hub):
    hub.add_model("base/llama")
    assert api_of(hub, False).model_info("base/llama").id == "base/llama"
    hub.add_model("gpt2")
    assert api_of(hub, False).model_info("gpt2", revision="main").id == "gpt2"
    assert [f.path for f in api_of(hub, False).list_repo_tree("gpt2")] == [".gitattributes"]


def test_branches_and_tags_come_and_go(hub):
    api = api_of(hub)
    first = hub.create_repo("ada/model").head()
    second = hub.commit("ada/model", {"a.txt": b"a"})
    api.create_branch("ada/model", branch="feature/x", revision=first)
    api.create_tag("ada/model", tag="v1.0")
    api.create_tag("ada/model", tag="v0.1", revision="feature/x")
    refs = api.list_repo_refs("ada/model", include_pull_requests=True)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "feature/x": first}
    assert {ref.ref: ref.target_commit for ref in refs.tags} == {
        "refs/tags/v1.0": second,
        "refs/tags/v0.1": first,
    }
    for again in (
        lambda: api.create_tag("ada/model", tag="v1.0"),
        lambda: api.create_branch("ada/model", branch="feature/x"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            again()
        assert status_of(refused) == 409
    api.create_tag("ada/model", tag="v1.0", exist_ok=True)
    api.delete_tag("ada/model", tag="v1.0")
    api.delete_branch("ada/model", branch="feature/x")
    assert hub.repo("ada/model").tags == {"v0.1": first}
    assert list(hub.repo("ada/model").branches) == ["main"]
    for gone in (
        lambda: api.delete_tag("ada/model", tag="v1.0"),
        lambda: api.delete_branch("ada/model", branch="feature/x"),
        lambda: api.create_tag("ada/model", tag="v2", revision="nowhere"),
    ):
        with pytest.raises(RevisionNotFoundError):
            gone()
    with pytest.raises(HfHubHTTPError) as refused:
        api.delete_branch("ada/model", branch="main")
    assert status_of(refused) == 403


@pytest.mark.parametrize("tag", ["a b", "a..b", "-a", "a^", "a.lock", "a/"])
def test_a_tag_git_would_not_take_is_refused(hub, tag):
    hub.create_repo("ada/model")
    with pytest.raises(HfHubHTTPError) as refused:
        api_of(hub).create_tag("ada/model", tag=tag)
    assert status_of(refused) == 400


def test_every_spelling_of_a_revision_is_found_and_others_are_not(hub):
    api = api_of(hub)
    repo = hub.create_repo("ada/model")
    oid = hub.commit("ada/model", {"a.txt": b"a"})
    repo.branches["feature/x"] = repo.tags["job-1234"] = oid
    for revision in ("main", "feature/x", "job-1234", oid):
        assert api.model_info("ada/model", revision=revision).sha == oid
        assert "a.txt" in [file.path for file in api.list_repo_tree("ada/model", revision=revision)]
        assert api.list_repo_commits("ada/model", revision=revision)[0].commit_id == oid
    for revision in ("nowhere", oid[:7], "0" * 40):
        for ask in (
            api.model_info,
            api.list_repo_commits,
            lambda repo, revision: list(api.list_repo_tree(repo, revision=revision)),
        ):
            with pytest.raises(RevisionNotFoundError):
                ask("ada/model", revision=revision)


def test_history_is_paged_newest_first(hub):
    hub.create_repo("ada/model")
    oids = [
        hub.commit("ada/model", {f"{n}.txt": b"x"}, title=f"n{n}", description=f"d{n}") for n in range(120)
    ]
    commits = api_of(hub).list_repo_commits("ada/model")
    assert [made.commit_id for made in commits[:-1]] == oids[::-1]
    assert (commits[0].title, commits[0].message, commits[0].authors) == ("n119", "d119", ["stranger"])
    pages = [r for r in hub.requests if r.path.endswith("/commits/main")]
    assert len(pages) == 3
    few = httpx2.get(f"{hub.endpoint}/api/models/ada/model/commits/main?limit=2")
    assert [made["id"] for made in few.json()] == oids[:-3:-1]
    assert 'rel="next"' in few.headers["Link"]
    assert hub.repo("ada/model").commits()[0].oid == hub.repo("ada/model").head()


def test_the_tree_is_paged_by_cursor(hub):
    hub.create_repo("ada/model")
    names = {f"data/{n:03d}.txt": b"x%d" % n for n in range(25)}
    hub.commit("ada/model", names)
    hub.tree_page = 10
    listed = [file.path for file in api_of(hub).list_repo_tree("ada/model", recursive=True)]
    assert listed == sorted([".gitattributes", "data", *names])
    assert len([r for r in hub.requests if "/tree/" in r.path]) == 3


def test_a_folder_is_listed_flat_or_whole(hub):
    hub.create_repo("ada/model")
    hub.commit("ada/model", {"a/b/c.txt": b"c", "a/d.txt": b"d", "ab/e.txt": b"e"})
    api = api_of(hub)
    assert [f.path for f in api.list_repo_tree("ada/model")] == [".gitattributes", "a", "ab"]
    assert [f.path for f in api.list_repo_tree("ada/model", "a")] == ["a/b", "a/d.txt"]
    assert [f.path for f in api.list_repo_tree("ada/model", "a", recursive=True)] == [
        "a/b",
        "a/b/c.txt",
        "a/d.txt",
    ]
    assert isinstance(next(iter(api.list_repo_tree("ada/model", "a"))), RepoFolder)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("ada/model", "nowhere"))


def test_paths_info_describes_what_exists_and_skips_the_rest(hub):
    hub.create_repo("ada/model")
    hub.commit("ada/model", {"a/b.txt": b"hello\n", "w.bin": b"\0" * 5})
    found = api_of(hub).get_paths_info("ada/model", ["a/b.txt", "w.bin", "a", "nowhere"])
    assert [entry.path for entry in found] == ["a/b.txt", "w.bin", "a"]
    blob = subprocess.run(
        ["git", "hash-object", "--stdin"], input=b"hello\n", capture_output=True, check=True
    )
    assert found[0].blob_id == blob.stdout.decode().strip()
    assert (found[0].size, found[0].lfs) == (6, None)
    assert (found[1].size, found[1].lfs.pointer_size) == (5, 126)


def test_model_info_carries_card_and_blob_details(hub):
    hub.create_repo("ada/model")
    hub.commit("ada/model", {"README.md": CARD, "w.bin": b"\0" * 5})
    info = api_of(hub).model_info("ada/model", files_metadata=True)
    assert info.card_data.to_dict() == {"license": "mit", "tags": ["trl", "dpo"]}
    assert info.last_modified == hub.repo("ada/model").commits()[0].date.replace(
        microsecond=info.last_modified.microsecond
    )
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    assert (sizes["README.md"], sizes["w.bin"]) == (len(CARD), 5)


def test_an_unknown_route_is_a_404_with_the_usual_headers(hub):
    answer = httpx2.get(f"{hub.endpoint}/api/nowhere/at/all")
    assert (answer.status_code, answer.json()["error"]) == (404, answer.headers["X-Error-Message"])
    assert answer.headers["X-Request-Id"]


def test_many_clients_at_once_each_get_their_own(hub):
    def work(n):
        api = api_of(hub)
        api.create_repo(f"ada/model-{n}")
        api.create_commit(f"ada/model-{n}", [CommitOperationAdd("n.txt", b"%d" % n)], commit_message="m")
        return hub.read(f"ada/model-{n}", "n.txt")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [b"%d" % n for n in range(16)]
    assert [request.index for request in hub.requests] == list(range(len(hub.requests)))


def test_one_of_many_commits_on_the_same_parent_wins(hub, monkeypatch):
    def slow_change(*args, change=commit._change):
        threading.Event().wait(0.01)  # every commit would see the same head if they were not serialised
        change(*args)

    monkeypatch.setattr(commit, "_change", slow_change)
    parent = hub.create_repo("ada/model").head()

    def work(n):
        add = [CommitOperationAdd(f"{n}.txt", b"x")]
        try:
            api_of(hub).create_commit("ada/model", add, commit_message=f"m{n}", parent_commit=parent)
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(work, range(8)))
    assert sorted(statuses) == [200] + [412] * 7
    assert len(hub.repo("ada/model").commits()) == 2


def test_closing_leaves_no_thread_no_socket_and_no_folder():
    threads, files = threading.active_count(), open_files()
    with Hub() as hub:
        endpoint, root = hub.endpoint, hub.content.cas.root.parent
        with httpx2.Client() as client:
            assert client.get(f"{endpoint}/api/whoami-v2").status_code == 401
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(endpoint)
    hub.close()
    assert not root.exists()
    assert threading.active_count() == threads
    assert open_files() == files


def test_the_hub_runs_as_a_process_until_stdin_closes(tmp_path):
    command = [
        sys.executable,
        "-m",
        "agent.sandbox.hub",
        "--port",
        "0",
        "--root",
        str(tmp_path),
        "--user",
        "ada",
    ]
    command += ["--token", "hf_x", "--rate-mb-s", "100"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        assert HfApi(endpoint=endpoint, token="hf_x").whoami()["name"] == "ada"
        process.stdin.close()
        assert process.wait(10) == 0


def test_the_hub_process_stops_on_sigterm(tmp_path):
    command = [
        sys.executable,
        "-m",
        "agent.sandbox.hub",
        "--root",
        str(tmp_path),
        "--user",
        "a",
        "--token",
        "t",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 0
