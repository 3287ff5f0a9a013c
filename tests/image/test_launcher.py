"""`python -m agent` from every Python of a container, and nothing of theirs changed by it."""

from __future__ import annotations

import pytest

from tests.image.container import SOMEBODY

SYSTEM, THEIRS = "/usr/bin/python3", "/venv/bin/python"
WHERE = "import sys; print(sys.executable)"
VERSION = "training-agent, version 0.1.0\n"


@pytest.fixture
def later(container):
    """A virtual environment that somebody made when the container ran."""
    assert container.run(SYSTEM, "-m", "venv", "--without-pip", "/home/later")[0] == 0
    return "/home/later/bin/python"


@pytest.mark.parametrize("python", [SYSTEM, THEIRS])
def test_a_python_that_holds_another_huggingface_hub_runs_the_agent(container, python):
    assert container.run(python, "-m", "agent", "--version") == (0, VERSION)
    said = container.run(python, "-c", "import huggingface_hub; print(huggingface_hub.__version__)")
    assert said == (0, "0.36.0\n")


def test_a_virtual_environment_made_later_runs_the_agent(container, later):
    assert container.run(later, "-m", "agent", "--version") == (0, VERSION)


@pytest.mark.parametrize("python", [SYSTEM, THEIRS])
def test_the_training_can_import_the_callback(container, python):
    said = container.run(python, "-c", "from agent.callback import AgentCallback as it; print(it.__module__)")
    assert said == (0, "agent.callback\n")


def test_arguments_and_exit_codes_pass_through(container):
    code, said = container.run(SYSTEM, "-m", "agent", "finalize", "--no such flag")
    assert code == 2
    assert "--no such flag" in said


def test_a_template_that_sets_pythonpath_takes_the_agent_from_virtual_environments_only(container):
    env = {"PYTHONPATH": "/workspace/src"}
    assert container.run("training-agent", "--version", env=env) == (0, VERSION)
    assert container.run(SYSTEM, "-m", "agent", "--version", env=env) == (0, VERSION)
    code, said = container.run(THEIRS, "-m", "agent", "--version", env=env)
    assert code == 1
    assert "No module named agent" in said


@pytest.mark.parametrize(
    ("place", "env"),
    [
        ("/workspace", {}),  # the working directory
        ("/venv/lib/python3.11/site-packages", {}),  # behind the launcher
        ("/usr/local/lib/python3.11/dist-packages", {}),
        ("/usr/lib/python3/dist-packages", {}),  # behind the launcher, for the machine's Python
        ("/elsewhere", {"PYTHONPATH": "/opt/agent-launcher:/elsewhere"}),
    ],
)
def test_a_package_of_theirs_that_is_called_agent_is_theirs(container, place, env):
    python = THEIRS if place.startswith("/venv") else SYSTEM
    if place == "/workspace":
        (container.volume / "agent").mkdir()
        (container.volume / "agent" / "__init__.py").write_text("mine = 1")
        (container.volume / "agent" / "__main__.py").write_text("print('mine')")
    else:
        container.write(f"{place}/agent/__init__.py", "mine = 1")
        container.write(f"{place}/agent/__main__.py", "print('mine')")
    assert container.run(python, "-c", "import agent; print(agent.mine)", cwd="/workspace", env=env) == (
        0,
        "1\n",
    )
    assert container.run(python, "-m", "agent", "finalize", cwd="/workspace", env=env) == (0, "mine\n")


def test_a_module_of_theirs_that_is_called_agent_is_theirs(container):
    container.write(
        "/venv/lib/python3.11/site-packages/agent.py", "mine = 1\nif __name__ == '__main__': print('mine')"
    )
    assert container.run(THEIRS, "-c", "import agent; print(agent.mine)") == (0, "1\n")
    assert container.run(THEIRS, "-m", "agent") == (0, "mine\n")


def test_a_folder_of_theirs_that_is_called_agent_keeps_its_modules_and_gains_the_agent(container):
    (container.volume / "agent").mkdir()
    (container.volume / "agent" / "tools.py").write_text("mine = 1")
    for python in (SYSTEM, THEIRS):
        said = container.run(python, "-c", "import agent.tools; print(agent.tools.mine)", cwd="/workspace")
        assert said == (0, "1\n")
        assert container.run(python, "-m", "agent", "--version", cwd="/workspace") == (0, VERSION)


def test_what_lies_around_or_is_set_for_the_training_does_not_reach_the_agent(container):
    bad = "raise SystemExit('theirs was imported')"
    for name in ("json", "click", "pydantic", "huggingface_hub", "sitecustomize"):
        (container.volume / f"{name}.py").write_text(bad)
    env = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/workspace", "PYTHONSTARTUP": "/workspace/json.py"}
    assert container.run("training-agent", "--version", env=env, cwd="/workspace") == (0, VERSION)
    (container.volume / "sitecustomize.py").unlink()  # of the Python that is asked, it is the user's to run
    env = {"PYTHONPATH": "/workspace"}
    assert container.run(SYSTEM, "-m", "agent", "--version", env=env, cwd="/workspace") == (0, VERSION)


def test_somebody_without_rights_runs_it_and_changes_nothing_of_it(container):
    before = sorted((container.root / "opt").rglob("*"))
    for command in (("training-agent",), (SYSTEM, "-m", "agent"), (THEIRS, "-m", "agent")):
        assert container.run(*command, "--version", user=SOMEBODY) == (0, VERSION)
    code, said = container.run("training-agent", "check", "/nowhere", "--json", user=SOMEBODY)
    assert code == 11
    assert '"code": "artifact"' in said
    assert sorted((container.root / "opt").rglob("*")) == before


def test_a_launcher_without_its_agent_says_so(container):
    (container.root / "opt/agent/bin/python").unlink()
    code, said = container.run(SYSTEM, "-m", "agent")
    assert code == 1
    assert said.startswith("The agent cannot be started: /opt/agent/bin/python: No such file or directory.\n")
