"""The page on trained agents: its pictures are there, and a browser opens it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("matplotlib")
pytest.importorskip("agents")

from matplotlib.image import imread

from agents import report, train
from agents.closed_forms import advised, closed_forms, deviation
from agents.colours import CHOSEN, OF_AGENTS, colour
from agents.figures import learned_steps, matrix
from metalearn_env.policy import Policy
from metalearn_env.rules import rule
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.contenders import known_controllers

PNG = b"\x89PNG\r\n"
MIXTURE = ('families:["QLearning",{"family":"LinearRegression","dimension":[4,8]}]', "horizon:8")


class Page(HTMLParser):
    """What is on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a report on an agent that has hardly been trained, on two families."""
    run, out = tmp_path_factory.mktemp("runs") / "one", tmp_path_factory.mktemp("report") / "new"
    small = ("n_envs:16", "n_steps:10", "batch_size:160", "policy_kwargs:{net_arch: [8, 8]}")
    kind = {"env": "MetaLearn/Mixture-v0", "env_kwargs": MIXTURE}
    train.main(train.Args(out=run, hyperparams=small, steps=320, validation_tasks=8, **kind))
    report.main(report.Args(runs=(run,), out=out, tasks=24))
    return out


def test_the_page_holds_its_pictures(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    files = sorted(folder.glob("*.png"))
    assert len(page.pictures) == len(files) == 2 * 4 + 2  # four of each family, and one each out of distribution
    held = set()
    for picture in page.pictures:
        assert picture["alt"]
        start, _, data = str(picture["src"]).partition(",")
        assert start == "data:image/png;base64"
        held.add(base64.b64decode(data))
    assert held == {file.read_bytes() for file in files}
    for file in files:
        pixels = imread(file)
        assert pixels.std() > 0.05  # something is drawn
        assert min(pixels.shape[:2]) > 150
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_the_page_tells_the_scores(folder: Path) -> None:
    page, result = Page((folder / "report.html").read_text()), json.loads((folder / "report.json").read_text())
    assert "python -m agents.train" in page.words
    for table in result["parts"]:
        assert {"trained-agent", "oracle-constant", "limit"} <= {row["controller"] for row in table["rows"]}
        assert all(f"{row['iqm']:.3f}" in page.words for row in table["rows"])


def test_a_browser_opens_it(folder: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    shot, page = tmp_path / "page.png", (folder / "report.html").as_uri()
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    done = subprocess.run(
        [browser, *options, f"--screenshot={shot}", "--window-size=1000,8000", page],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr  # what a page complains of
    pixels = imread(shot)
    assert pixels.shape[:2] == (8000, 1000)
    assert (np.ptp(pixels[..., :3], axis=2) > 0.3).mean() > 0.005  # text is grey: pictures are shown


def test_agents_that_differ_and_runs_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        report.main(report.Args(runs=(), out=tmp_path / "new"))
    with pytest.raises(FileNotFoundError):
        report.main(report.Args(runs=(tmp_path,), out=tmp_path / "new"))
    with pytest.raises(ValueError, match="--ood"):
        report.main(report.Args(runs=(tmp_path,), out=tmp_path / "new", split="ood"))
    assert not (tmp_path / "new").exists()


def test_every_controller_has_its_colour() -> None:
    shades = [colour(name) for name in known_controllers()]
    assert len(set(shades)) == len(shades)
    assert OF_AGENTS not in shades
    assert set(CHOSEN) <= set(known_controllers())
    assert colour("trained-agent") == OF_AGENTS


def test_learned_steps_of_any_policy_can_be_drawn() -> None:
    tasks = TaskSet("MetaLearn/LinearRegression-v0", tasks=8, env_kwargs={"horizon": 6, "dimension": 4})
    left, right = learned_steps(Policy.untrained(history=2, seed=0), tasks).axes
    assert left.get_title().startswith("Barzilai-Borwein")
    assert len(left.collections[0].get_offsets()) <= 8 * 5
    assert len(right.collections[0].get_offsets()) > 0


ISOTROPIC = {"spectrum": "log-uniform", "conditioning": 1, "batch_size": 2}


@pytest.mark.parametrize(
    ("name", "options", "forms"),
    [
        ("Tracking", {}, ("kalman", "drift-tracking")),
        ("Tracking", {"tails": "heavy"}, ()),
        ("LinearRegression", ISOTROPIC, ("isotropic-lms",)),
        ("LinearRegression", {**ISOTROPIC, "batch_size": None}, ()),
        ("LinearRegression", {**ISOTROPIC, "conditioning": 2}, ()),
        ("QLearning", {}, ()),
    ],
)
def test_where_there_is_a_closed_form(name: str, options: dict[str, Any], forms: tuple[str, ...]) -> None:
    tasks = TaskSet(f"MetaLearn/{name}-v0", tasks=8, env_kwargs={"horizon": 6, **options})
    assert closed_forms(tasks) == forms
    axes = learned_steps(Policy.untrained(history=2, seed=0), tasks).axes
    assert len(axes) == (4 if forms else 2)
    assert not forms or axes[2].get_title().startswith("the closed form")


def test_an_agent_that_is_the_closed_form_does_not_deviate() -> None:
    tasks = TaskSet("MetaLearn/Tracking-v0", tasks=8, env_kwargs={"horizon": 6})
    steps = advised(SimpleNamespace(step_sizes=rule("kalman")), tasks, ["kalman", "drift-tracking"])
    assert (deviation(steps, "kalman") == 0.0).all()
    assert (deviation(steps, "drift-tracking")[0] > 0.1).all()


def test_a_matrix_leaves_out_what_there_is_not() -> None:
    figure = matrix({"one": {"noise": 0.5, "scale": -2.0}, "two": {"scale": 0.25}})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.50", "-2.00", "0.25"]
