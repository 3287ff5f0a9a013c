from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.image.store import CONTEXT, ROOT, BuildError

IMAGE = ROOT / "image"
UNCHECKED_HASH = b"\x01\x00\x00\x00"  # the flags of a .pyc that is taken as it is (PEP 552)


@pytest.fixture(scope="session")
def config(store, image):
    return json.loads(store.buildah("inspect", "--type", "image", image))["OCIv1"]["config"]


def tool(name):
    """A program that came with the test requirements."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: ./dev test installs it"
    return found


def pins(name):
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    return {line.split()[0] for line in lines if "==" in line and not line.startswith(" ")}


def test_hadolint_has_nothing_to_say():
    done = subprocess.run(
        [tool("hadolint"), "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_shellcheck_has_nothing_to_say():
    scripts = [IMAGE / "post_start.sh", IMAGE / "training-agent", IMAGE / "training-agent-entrypoint"]
    done = subprocess.run(
        [tool("shellcheck"), "--enable=all", "--exclude=SC2250,SC2292,SC2312,SC2310", *scripts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_launcher_is_read_by_old_pythons():
    source = (IMAGE / "launcher" / "agent" / "__main__.py").read_text()
    ast.parse(source, feature_version=(3, 6))
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported == {"os", "sys"}


def test_what_builds_the_package_is_pinned_as_in_the_tests():
    assert pins("build") <= pins("test")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {pin.split("==")[0] for pin in pins("build")} >= set(wanted)


def test_buildah_is_given_what_dockerignore_lets_through():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    through = {line[1:] for line in lines if line.startswith("!")}
    assert through == set(CONTEXT) - {"Dockerfile", ".dockerignore"}


def test_the_base_keeps_its_command_and_its_user(config, store):
    base = json.loads(store.buildah("inspect", "--type", "image", store.base))["OCIv1"]["config"]
    assert base["User"] == "1000:1000"
    for name in ("Cmd", "User", "Entrypoint", "WorkingDir"):
        assert config.get(name) == base.get(name), name


def test_the_environment_gains_one_thing(config, store):
    base = json.loads(store.buildah("inspect", "--type", "image", store.base))["OCIv1"]["config"]
    assert set(config["Env"]) ^ set(base["Env"]) == {
        "PYTHONPATH=/opt/modules",
        "PYTHONPATH=/opt/modules:/opt/agent-launcher",
    }


def test_the_labels_say_what_it_is(config, store):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()
    }
    assert labels["title"] == project["name"]
    assert labels["description"] == project["description"]
    assert labels["version"] == project["version"]
    assert labels["base.name"] == store.base
    assert labels["revision"] == ""


def test_nothing_of_the_build_is_left_behind(container):
    root = container.root
    packages = root / "opt/agent/lib/python3.11/site-packages"
    assert {path.name for path in packages.glob("pip*")} == set()
    assert {path.name for path in (packages.parent).glob("*/hatchling")} == set()
    for name in ("src", "build", "layer", "root/.cache"):
        assert not (root / name).exists(), name
    found = {path.name for path in root.iterdir() if path.is_file()}
    assert found == {"start.sh", "post_start.sh", "post_start.base.sh"}


def test_no_module_of_the_agents_environment_is_compiled_when_it_runs(container):
    lib = container.root / "opt/agent/lib"
    sources = list(lib.rglob("*.py"))
    compiled = list(lib.rglob("*.pyc"))
    assert len(compiled) > 2000
    assert len(sources) - len(compiled) < 20  # templates that are no Python
    assert {path.read_bytes()[4:8] for path in compiled} == {UNCHECKED_HASH}


def test_packages_of_the_image_are_those_of_the_lock(container):
    found = json.loads(
        container.run(
            "/opt/agent/bin/python", "-I", "-c",
            "import importlib.metadata as m, json;"
            "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))",
        )[1]
    )  # fmt: skip
    assert found.pop("training-completion-agent") == "0.1.0"
    assert {f"{name}=={version}" for name, version in found.items()} == pins("image")


def test_an_old_python_is_refused_in_one_sentence(store, image):
    with pytest.raises(BuildError) as refused:
        store.build("localhost/refused", ROOT, BASE_IMAGE=store.base, AGENT_PYTHON="/bin/false")
    said = str(refused.value)
    assert (
        f"The agent needs Python 3.11 or newer, which AGENT_PYTHON=/bin/false of {store.base} is not; "
        in said
    )
    assert "--build-arg AGENT_PYTHON=python3.12" in said


def test_the_page_of_the_image_names_what_is_there(container):
    page = (ROOT / "docs" / "image.md").read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \|.*\| (\S+) \|$", page, re.MULTILINE))
    assert {name: value.strip("`").replace("none", '""') for name, value in listed.items()} == arguments
    assert set(re.findall(r"--build-arg (\w+)", page)) <= set(arguments)
    places = re.findall(r"^\| `(/\S+)` \|", page, re.MULTILINE)
    assert len(places) == 5
    for place in places:
        assert (container.root / place[1:]).exists(), place
