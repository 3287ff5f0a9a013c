from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import pytest
from PIL import Image
from structlog.testing import capture_logs

from agent.card import drawing, easel, plots
from agent.card.curves import figures
from agent.card.drawing import Drawing
from agent.card.easel import Easel
from agent.errors import Interrupted
from tests.conftest import FIXTURES, ROOT, TOKEN

PAGES = ("#ffffff", "#0b0f19")
WARNING = "the plots could not be drawn"


@pytest.fixture(autouse=True, scope="module")
def _settings_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        patch.setenv("MPL_IGNORE_SYSTEM_FONTS", "1")
        yield


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where the temporary folders of a test are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_in(folder):
    return list(folder.glob("training-agent-plots-*"))


def log(steps, **values):
    return [
        {"step": step} | {key: value(step) for key, value in values.items()} for step in range(1, steps + 1)
    ]


def noise():
    die = random.Random(7)
    return lambda step: 1 + 3 / step + die.gauss(0, 0.2)


def everything():
    """A run with all that a legend can hold."""
    history = log(2000, loss=noise(), grad_norm=noise(), learning_rate=lambda step: 1e-4 / step)
    history += [{"step": step, "eval_loss": 1.2} for step in range(100, 2001, 100)]
    history[500]["loss"] = history[500]["grad_norm"] = math.nan
    return figures(history, checkpoints=range(100, 2001, 100), best=600)


def real():
    state = json.loads((FIXTURES / "orpo_lora" / "checkpoint-4" / "trainer_state.json").read_text())
    return figures(state["log_history"], checkpoints=[2, 4], best=4)


def extreme():
    scales = (1e-300, 5e-324, 3.3e38, -3.3e38, 0.0)
    return [
        *figures(log(30, loss=lambda step: (-1) ** step * 3.3e38, learning_rate=lambda _: 0.0)),
        *figures([{"step": 2**53 - at, "loss": at} for at in (1, 5)]),
        *figures(log(9, loss=lambda step: 1.0 if step % 2 else math.nan)),
        *figures(log(30, loss=lambda step: 1e-9 if step > 2 else 1e30)),
        *[
            figure
            for scale in scales
            for figure in figures(log(3, loss=lambda step, scale=scale: scale * step / 4))
        ],
    ]


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("colour", "least"), [(plots.INK, 4.0), *[(colour, 3.0) for colour in plots.COLOURS.values()]]
)
def test_every_colour_can_be_read_on_both_pages(colour, least, page):
    darker, lighter = sorted((luminance(colour), luminance(page)))
    assert (lighter + 0.05) / (darker + 0.05) >= least


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(everything, id="everything"),
        pytest.param(real, id="real"),
        pytest.param(extreme, id="extreme"),
    ],
)
def test_an_image_is_small_transparent_and_cut_nowhere(made):
    for figure in made():
        content = plots.draw(figure)
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.size, image.info.keys()) == ("PNG", (1200, 600), {"transparency"})
        assert len(content) < 150_000
        alpha = image.convert("RGBA").getchannel("A")
        left, upper, right, lower = alpha.getbbox()
        assert min(left, upper, 1200 - right, 600 - lower) >= 5, figure.caption
        share = alpha.histogram()[0] / (1200 * 600)
        assert 0.5 < share < 0.99


def test_the_same_figure_is_the_same_bytes_whatever_the_settings_are():
    import matplotlib as mpl

    [figure] = figures(log(3, loss=float))
    drawn = plots.draw(figure)
    with mpl.rc_context({"font.size": 40, "lines.dash_capstyle": "round", "axes.linewidth": 9}):
        assert plots.draw(figure) == drawn
        assert mpl.rcParams["font.size"] == 40


def test_an_axis_is_labelled_in_one_manner():
    assert [plots._tick(value, 0.0, 2e-4) for value in (1e-20, 5e-5, 1.5e-4)] == ["0", "5e-5", "1.5e-4"]
    assert [plots._tick(value, 0.0, 2000.0) for value in (-1e-13, 0.5, 1000.0)] == ["0", "0.5", "1,000"]
    assert [plots._tick(value, 0.0, 9e15) for value in (0.0, 8.2e15)] == ["0", "8.2e15"]


def axes_of(figure):
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet()
    plots._draw_on(sheet, figure)
    return sheet.axes


def test_a_logarithmic_axis_tells_its_small_values_too():
    [figure] = figures(log(30, loss=lambda step: 1e-9 if step > 2 else 1e3))
    [axes] = axes_of(figure)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "0.01" in labels
    assert "1e-8" in labels


def test_a_value_alone_between_gaps_is_marked():
    values = [math.nan, 1.0, math.nan, *[1.0] * 20, math.nan, 2.0]
    [figure] = figures([{"step": step, "loss": value} for step, value in enumerate(values)])
    [axes] = axes_of(figure)
    for line in axes.lines[:2]:
        assert (line.get_marker(), line.get_markevery()) == (".", [1, 24])


def test_what_hardly_changes_is_drawn_flat():
    [figure] = figures(log(4, loss=lambda step: 0.6931 + step * 1e-6))
    low, high = plots._limits(figure.panels[0])
    assert high - low == pytest.approx(0.0069, rel=0.01)


def test_a_figure_that_fails_does_not_cost_the_others(tmp_path, monkeypatch, capsys):
    made = figures(log(3, loss=float, learning_rate=float))
    first, second = [dataclasses.asdict(figure) for figure in made]
    broken = second | {"path": "assets/broken.png", "panels": []}
    monkeypatch.setattr(plots, "_be_modest", lambda: None)
    monkeypatch.setattr(plots, "_be_brief", lambda: None)
    monkeypatch.setattr(sys, "argv", ["plots", str(tmp_path)])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    (tmp_path / easel.ASKED).write_text(json.dumps([first, broken, second]))
    assert plots.main() == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        easel.ASKED, "training-loss.png", "training-optimizer.png",
    }  # fmt: skip
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("assets/broken.png: ")


def test_the_process_stays_behind_and_ends_by_itself():
    script = """
import os, resource, signal
from agent.card.plots import _be_brief, _be_modest
before = os.nice(0)
_be_modest()
_be_brief()
print(os.nice(0) - before, signal.alarm(0), *resource.getrlimit(resource.RLIMIT_FSIZE))
"""
    told = subprocess.check_output([sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT)}, text=True)
    assert told == "10 120 16777216 16777216\n"


def test_a_process_of_its_own_draws_what_is_drawn_here(scratch, monkeypatch):
    """Whatever lies where the agent was started: an output folder is not to be run."""
    hostile = scratch / "out"
    hostile.mkdir()
    for name in ("matplotlib.py", "json.py", "agent.py"):
        (hostile / name).write_text("raise SystemExit('run')")
    (hostile / "matplotlibrc").write_text("figure.dpi: 30\nfont.size: 40")
    monkeypatch.chdir(hostile)
    made = everything()
    with capture_logs() as logged:
        drawing_ = Drawing(made)
        drawn = drawing_.finish()
    assert logged == []
    assert drawn == {figure.path: plots.draw(figure) for figure in made}
    assert drawing_.finish() == drawn
    assert left_in(scratch) == []


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Put a shell script in Python's place; `$3` is the folder."""

    def install(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


LOSS, OPTIMIZER = "assets/training-loss.png", "assets/training-optimizer.png"


@pytest.fixture
def two():
    return figures(log(3, loss=lambda step: step, learning_rate=lambda step: step))


def test_no_secret_is_inherited(child, scratch, two, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("PYTHONPATH", f"somewhere{os.pathsep}/else")
    monkeypatch.chdir(scratch)
    child('env > "$3/training-loss.png"; cp "$3/training-loss.png" "$3/training-optimizer.png"')
    environ = Drawing(two).finish()[LOSS].decode()
    assert TOKEN not in environ
    assert "LANG=C.UTF-8\n" in environ
    assert f"PYTHONPATH={scratch}/somewhere:/else:{ROOT}\n" in environ
    assert {line.partition("=")[0] for line in environ.splitlines()} <= {
        *easel._INHERITED, "OMP_NUM_THREADS", "PWD", "OLDPWD", "SHLVL", "_",
    }  # fmt: skip


def test_an_installed_package_is_not_put_before_python_itself(monkeypatch):
    monkeypatch.setattr(easel, "__file__", "/venv/lib/python3.11/site-packages/agent/card/easel.py")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert "PYTHONPATH" not in easel._environment()


@pytest.mark.parametrize(
    ("script", "drawn", "because"),
    [
        ('printf A > "$3/training-loss.png"; echo "a: b" >&2; exit 1', {LOSS: b"A"}, "a: b"),
        ('printf A > "$3/training-optimizer.png"', {OPTIMIZER: b"A"}, f"{LOSS}: No such file or directory"),
        ("exit 3", {}, "the process ended with 3"),
        ("kill -9 $$", {}, "the process ended with -9"),
        ("head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1", {}, "x" * 300),
        ('printf A > "$3/training-loss.png"; exec sleep 600', {LOSS: b"A"}, "not ready after 0.5 s"),
        ('mkdir "$3/training-loss.png"; exit 1', {}, "the process ended with 1"),
        ('rm -r "$3"; exit 1', {}, "the process ended with 1"),
    ],
)
def test_what_fails_costs_only_itself_and_is_told_once(child, scratch, two, script, drawn, because):
    child(script)
    with capture_logs() as logged:
        drawing_ = Drawing(two)
        process = drawing_._easel.process
        assert drawing_.finish(0.5 if "sleep" in script else 60) == drawn
        assert drawing_.finish() == drawn
        drawing_.stop()
        assert drawing_.finish() == drawn
    assert logged == [{"event": WARNING, "because": because, "log_level": "warning"}]
    assert process.returncode is not None
    assert left_in(scratch) == []


def test_a_process_that_cannot_be_started_is_a_warning(scratch, two, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(scratch / "nothing"))
    with capture_logs() as logged:
        drawing_ = Drawing(two)
        assert left_in(scratch) == []
        assert drawing_.finish() == {}
    assert logged == [{"event": WARNING, "because": "No such file or directory", "log_level": "warning"}]


@pytest.mark.parametrize("signalled", [KeyboardInterrupt(), Interrupted(15)])
def test_a_signal_ends_the_process_too(child, scratch, two, monkeypatch, signalled):
    child("exec sleep 600")
    wait = subprocess.Popen.wait

    def interrupted(self, timeout=None):
        if timeout is not None:
            raise signalled
        return wait(self)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    drawing_ = Drawing(two)
    process = drawing_._easel.process
    with pytest.raises(type(signalled)):
        drawing_.finish()
    assert process.returncode == -9
    assert left_in(scratch) == []
    assert drawing_.finish() == {}


def test_a_signal_at_the_start_leaves_nothing(scratch, two, monkeypatch):
    def interrupted(*args, **kwargs):
        raise Interrupted(15)

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(Interrupted):
        Drawing(two)
    assert left_in(scratch) == []


def test_leaving_early_ends_the_process_without_a_word(child, scratch, two):
    child("exec sleep 600")
    with capture_logs() as logged, Drawing(two) as drawing_:
        process = drawing_._easel.process
        assert left_in(scratch)
    assert drawing_.finish() == {}
    assert (process.returncode, logged, left_in(scratch)) == (-9, [], [])


def test_an_easel_waits_and_draws_what_one_that_was_just_started_draws(scratch):
    made = everything()
    with capture_logs() as logged:
        prepared = Easel()
        assert prepared.process.poll() is None
        drawing_ = Drawing(made, prepared)
        assert drawing_._easel is prepared
        assert drawing_.finish() == {figure.path: plots.draw(figure) for figure in made}
        again = Drawing(made, prepared)
        assert again._easel is not prepared
        again.stop()
    assert (logged, left_in(scratch)) == ([], [])


def test_an_easel_that_nobody_asked_ends_without_a_trace(scratch):
    prepared = Easel()
    prepared.stop()
    assert (prepared.process.returncode, left_in(scratch)) == (-9, [])


def test_an_easel_whose_owner_is_gone_tidies_up(scratch):
    prepared = Easel()
    prepared.process.stdin.close()
    assert (prepared.process.wait(60), left_in(scratch)) == (0, [])


def test_an_easel_that_died_costs_only_the_plots(scratch, two):
    prepared = Easel()
    prepared.process.kill()
    prepared.process.wait()
    with capture_logs() as logged:
        assert Drawing(two, prepared).finish() == {}
    assert [line["event"] for line in logged] == [WARNING]
    assert left_in(scratch) == []


def test_nothing_to_draw_starts_nothing(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    assert Drawing([]).finish() == {}


def test_without_matplotlib_there_are_no_plots(monkeypatch):
    assert drawing.available()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not drawing.available()
