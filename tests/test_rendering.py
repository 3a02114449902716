"""Pictures of episodes, windows, text, and animated GIFs."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from metalearn_env.__main__ import main
from metalearn_env.boards import Board, Comparison
from metalearn_env.envs import StepSizeEnv
from metalearn_env.families import family_class
from metalearn_env.gymnasium_processes import load_process
from metalearn_env.pictures import Clusters, Fit, GridPolicy, ValueTable, greedy
from metalearn_env.policy import Policy
from metalearn_env.rendering import KEPT, comparisons, scene_of
from metalearn_env.rules import RULES
from metalearn_env.scenes import Scene, described, shown_gaps
from metalearn_env.scoring import final_log_gap
from metalearn_env.vector import StepSizeVectorEnv
from metalearn_env.watch import WATCHED, watch

SHAPE = (400, 1200, 3)
GRID = {"mdp": "FrozenLake-v1"}
CLIFF = "CliffWalking-v1" if "CliffWalking-v1" in gym.registry else "CliffWalking-v0"
SLIPPERY_CLIFF = "CliffWalkingSlippery-v1" if "CliffWalkingSlippery-v1" in gym.registry else CLIFF
TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"
PICTURES = [
    ("LinearRegression", {}, Fit),
    ("LinearRegression", {"spectrum": "gaussian", "batch_size": 4, "dimension": 1}, Fit),
    ("Clustering", {}, Clusters),
    ("Clustering", {"clusters": 1, "dimension": 1}, Clusters),
    ("QLearning", {}, ValueTable),
    ("QLearning", {"states": (4, 9), "actions": (2, 5), "branching": 2, "sampling": "trajectory"}, ValueTable),
    ("QLearning", {"mdp": TAXI}, ValueTable),
    ("QLearning", {**GRID, "sampling": "trajectory"}, GridPolicy),
    ("QLearning", {"mdp": CLIFF}, GridPolicy),
]
every_picture = pytest.mark.parametrize(
    ("name", "options", "kind"), PICTURES, ids=lambda value: str(value) if isinstance(value, dict) else None
)


def made(name: str, mode: str | None = "rgb_array", **options: Any) -> gym.Env:
    return gym.make(f"MetaLearn/{name}-v0", render_mode=mode, disable_env_checker=True, **options)


def play(env: gym.Env, seed: int | None, action: float = 0.0, steps: int = 10**6) -> Iterator[Any]:
    """Yield what render gives after reset and after each step, of an action of that size."""
    env.reset(seed=seed)
    yield env.render()
    for _ in range(steps):
        ended = env.step(np.full(env.action_space.shape, action, np.float32))[2]
        yield env.render()
        if ended:
            return


def scene(**changes: Any) -> Scene:
    given = {"family": "Valley", "kind": "supervised", "horizon": 9, "loss": 0.5}
    return Scene(**{**given, "gaps": np.array([1.0, 0.1]), "step_sizes": np.ones(1), **changes})


# rgb_array


@every_picture
@pytest.mark.parametrize("split", ["test", "ood"])
def test_a_picture_for_each_step_of_the_same_shape(name: str, options: dict[str, Any], kind: type, split: str) -> None:
    pytest.importorskip("matplotlib")
    options = {**options, "ood": "long_horizon", "horizon": 2} if split == "ood" else {**options, "horizon": 8}
    env = made(name, split=split, **options)
    frames = list(play(env, 0))
    assert len(frames) == 9
    assert all(frame.shape == SHAPE and frame.dtype == np.uint8 for frame in frames)
    assert all(not np.array_equal(one, other) for one, other in pairwise(frames))
    engine = env.unwrapped.session.engine
    assert type(engine.family.picture(engine.task, engine.theta, 0)) is kind


@pytest.mark.parametrize("action", [1.0, -1.0])
def test_an_inner_run_that_diverges_or_stands_still_is_drawn(env_id: str, action: float) -> None:
    pytest.importorskip("matplotlib")
    for seed in range(3):
        frames = list(play(gym.make(env_id, render_mode="rgb_array", horizon=6, action="absolute"), seed, action))
        assert {frame.shape for frame in frames} == {SHAPE}


def test_a_picture_tells_nothing_of_the_pictures_before(env_id: str) -> None:
    """What is kept from one to the next is not seen: a copy, which keeps nothing, draws the same."""
    pytest.importorskip("matplotlib")
    env = gym.make(env_id, render_mode="rgb_array", horizon=12).unwrapped
    for action in (-0.1, 0.6):  # the second may diverge: the axes change
        *_, last = play(env, 3, action)
        assert np.array_equal(copy.deepcopy(env).render(), last)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
def test_rows_of_a_mixture_are_drawn_as_single_environments_are(mode: AutoresetMode) -> None:
    pytest.importorskip("matplotlib")
    options: dict[str, Any] = {"horizon": (2, 4), "render_mode": "rgb_array"}
    env = gym.make_vec("MetaLearn/Mixture-v0", num_envs=5, autoreset_mode=mode, **options)
    make = lambda: gym.make("MetaLearn/Mixture-v0", **options)  # noqa: E731
    singles = gym.vector.SyncVectorEnv([make] * 5, autoreset_mode=mode)
    env.reset(seed=0), singles.reset(seed=0)
    for _ in range(6):
        frames, expected = env.render(), singles.render()
        assert len(frames) == 5
        assert all(np.array_equal(frame, other) for frame, other in zip(frames, expected, strict=True))
        env.step(np.zeros((5, 1), np.float32)), singles.step(np.zeros((5, 1), np.float32))


def test_the_figures_of_many_rows_are_not_kept() -> None:
    pytest.importorskip("matplotlib")
    env = StepSizeVectorEnv("LinearRegression", num_envs=KEPT + 2, horizon=2, render_mode="rgb_array")
    env.reset(seed=0)
    first, second = env.render(), env.render()
    assert first is not None
    assert len(first) == KEPT + 2
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_comparison_is_the_best_constant_step_for_the_task(family_id: str) -> None:
    env = gym.make(family_id, horizon=12, split="test").unwrapped
    env.reset(seed=1)
    engine = env.session.engine
    [comparison] = comparisons(engine.family, engine.task, 12)
    assert comparison.gaps.shape == (13,)
    assert comparison.gaps[0] == pytest.approx(1.0)
    for multiple in (0.9, 1.1):
        unit = multiple * comparison.step_size * engine.unit
        reached = final_log_gap(engine.family, engine.task, 12, lambda _: iter([unit] * 12))  # noqa: B023
        assert reached[0] >= np.log(comparison.gaps[-1]) - 0.05


def test_the_comparison_is_found_once_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    found: list[Any] = []

    def counted(*arguments: Any) -> Any:
        found.append(arguments)
        return comparisons(*arguments)

    monkeypatch.setattr("metalearn_env.rendering.comparisons", counted)
    env = made("LinearRegression", horizon=4)
    for _ in range(2):
        list(play(env, None))
    assert len(found) == 2


def test_a_family_that_shows_nothing_has_two_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    three = list(play(made("LinearRegression", horizon=3), 0))
    monkeypatch.setattr(family_class("LinearRegression"), "picture", lambda self, task, theta, row: None)
    two = list(play(made("LinearRegression", horizon=3), 0))
    assert {frame.shape for frame in two} == {SHAPE}
    assert not np.array_equal(two[0], three[0])


def test_an_environment_without_a_trace_cannot_be_drawn() -> None:
    env = StepSizeEnv("LinearRegression")
    env.render_mode = "rgb_array"
    env.reset(seed=0)
    with pytest.raises(ValueError, match="render_mode"):
        env.render()


def test_moves_without_a_step_size_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    nothing = scene(step_sizes=np.array([np.nan]))
    assert Board(nothing, Comparison("other", np.array([1.0, 0.0]), 1.0)).draw(nothing).shape == SHAPE


@pytest.mark.parametrize("step_size", [1e-300, 1e-12, 1.0, 10.0])
def test_a_constant_that_is_a_power_of_ten_is_drawn(step_size: float) -> None:
    """Matplotlib's own limits of such an axis warn."""
    pytest.importorskip("matplotlib")
    begun = scene(step_sizes=np.empty(0))
    assert Board(begun, Comparison("other", np.array([1.0, 0.1]), step_size)).draw(begun).shape == SHAPE


# What families show


def test_the_fit_is_the_gap() -> None:
    env = made("LinearRegression", horizon=5, split="test").unwrapped
    *_, _ = play(env, 0)
    engine = env.session.engine
    fit = engine.family.picture(engine.task, engine.theta, 0)
    assert 0.5 * ((fit.prediction - fit.best) ** 2).sum() == pytest.approx((engine.loss - engine.reference)[0])


def test_points_belong_to_the_nearest_centre_and_absent_centres_are_left_out() -> None:
    env = made("Clustering", horizon=3, dimension=2, clusters=(2, 6), split="test").unwrapped
    for seed in range(5):
        *_, _ = play(env, seed)
        engine = env.session.engine
        shown = engine.family.picture(engine.task, engine.theta, 0)
        assert len(shown.centres) == len(shown.best) == (engine.task.barrier == 0.0).sum()
        distance = np.linalg.norm(shown.points[:, None] - shown.centres, axis=2)  # the plane is all there is
        assert np.array_equal(shown.owner, distance.argmin(axis=1))
        assert 0.5 * (distance.min(axis=1) ** 2).mean() == pytest.approx(engine.loss[0])


def test_the_best_table_is_greedy_for_the_best() -> None:
    env = made("QLearning", horizon=3, **GRID).unwrapped
    env.reset(seed=0)
    engine = env.session.engine
    shown = engine.family.picture(engine.task, engine.task.optimum, 0)
    _, good, distinguished = greedy(shown.table)
    assert np.array_equal(good, distinguished)
    assert [shown.grid.labels[state] for state in np.flatnonzero(distinguished)].count("H") == 0
    assert not greedy(shown.table._replace(value=0.0 * shown.table.value))[2].any()


RIGHT, UP, LEFT, DOWN = (1, 0), (0, 1), (-1, 0), (0, -1)


@pytest.mark.parametrize(
    ("world", "shape", "moves", "start", "end"),
    [
        ("FrozenLake-v1", (4, 4), [LEFT, DOWN, RIGHT, UP], 0, (15, "G")),
        ("FrozenLake8x8-v1", (8, 8), [LEFT, DOWN, RIGHT, UP], 0, (63, "G")),
        (CLIFF, (4, 12), [UP, RIGHT, DOWN, LEFT], 36, (47, "E")),
        (SLIPPERY_CLIFF, (4, 12), [UP, RIGHT, DOWN, LEFT], 36, (47, "E")),
    ],
)
def test_worlds_on_a_grid(world: str, shape: Any, moves: Any, start: int, end: tuple[int, str]) -> None:
    grid = load_process(world).grid
    assert grid is not None
    assert grid.shape == shape
    assert np.array_equal(grid.moves, moves)
    assert grid.labels[start] == "S"
    assert grid.labels[end[0]] == end[1]


def test_a_world_that_is_no_grid() -> None:
    assert load_process(TAXI).grid is None


# ansi


def test_text_needs_no_matplotlib(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    texts = list(play(gym.make(env_id, render_mode="ansi", horizon=4, split="test"), 0, steps=2))
    assert all(isinstance(text, str) and len(text.splitlines()) == 3 for text in texts)
    assert [text.splitlines()[0].split(": ")[1] for text in texts] == [f"step {t} of 4" for t in range(3)]
    env = gym.make_vec(env_id, num_envs=3, render_mode="ansi", horizon=4, split="test")
    env.reset(seed=0)
    rows = env.render()
    assert isinstance(rows, tuple)
    assert len(rows) == 3
    assert rows[0] == texts[0]


def test_text_of_long_runs_and_of_the_end() -> None:
    long = described(scene(gaps=np.geomspace(1.0, 1e-5, 1000), step_sizes=np.ones(999)))
    assert max(map(len, long.splitlines())) <= 100
    gaps = shown_gaps(np.array([1.0, np.inf, np.nan, -1.0]))
    assert gaps.tolist() == [1.0, 1e6, 1e6, 1e-12]
    assert "diverged" in scene(gaps=gaps[:3]).title
    assert "none yet" in described(scene(gaps=np.ones(1), step_sizes=np.ones(0)))


# Without Matplotlib, and windows


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_without_matplotlib_there_is_a_clear_error(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = made("LinearRegression", mode)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match="metalearn-env"):
        list(play(env, 0, steps=1))
    env.close()


@pytest.fixture
def events() -> Iterator[list[str]]:
    """What happens to windows that nobody sees."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    fake_window = pytest.importorskip("fake_window")
    before = pyplot.get_backend()
    pyplot.switch_backend("module://fake_window")
    fake_window.events.clear()
    yield fake_window.events
    pyplot.close("all")
    pyplot.switch_backend(before)


def test_a_window_shows_every_step(env_id: str, events: list[str]) -> None:
    env = gym.make(env_id, render_mode="human", horizon=2, split="test")
    assert not events
    env.reset(seed=0)
    assert events == ["open", "show for 0.1 s"]
    env.step(np.zeros(1, np.float32))
    assert events == ["open", *["show for 0.1 s"] * 2]
    assert env.render() is None
    copy.deepcopy(env.unwrapped).close()
    assert "close" not in events
    env.close()
    env.close()
    assert events[-1] == "close"


def test_a_window_that_is_closed_opens_again(events: list[str]) -> None:
    from matplotlib import pyplot

    env = made("LinearRegression", "human")
    env.reset(seed=0)
    pyplot.close("all")
    env.step(np.zeros(1, np.float32))
    assert events.count("open") == 2
    env.close()


def test_checkers_find_no_fault_in_any_mode(env_id: str, events: list[str]) -> None:
    """Gymnasium's checker makes an environment of each mode by itself."""
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)
    for mode in StepSizeEnv.metadata["render_modes"]:
        sb3.check_env(gym.make(env_id, render_mode=mode))


def test_without_a_window_there_is_a_clear_error() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_backend()
    pyplot.switch_backend("agg")
    try:
        env = made("LinearRegression", "human")
        with pytest.raises(gym.error.Error, match="display"):
            env.reset(seed=0)
        env.close()
        assert not pyplot.get_fignums()
    finally:
        pyplot.switch_backend(before)


# Videos


def recorded_clips(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let RecordVideo write to a list: (frames, frames a second) of each video."""
    clips: list[Any] = []

    class Clip:
        def __init__(self, frames: Any, fps: int) -> None:
            clips.append((list(frames), fps))

        def write_videofile(self, path: str, logger: Any = None) -> None:
            assert path.endswith(".mp4")

    name = "moviepy.video.io.ImageSequenceClip"
    for part in ("moviepy", "moviepy.video", "moviepy.video.io", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setattr(sys.modules[name], "ImageSequenceClip", Clip, raising=False)
    return clips


def test_record_video(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    clips = recorded_clips(monkeypatch)
    env = gym.make(env_id, render_mode="rgb_array", horizon=3, split="test")
    env = gym.wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    for seed in (0, 1):
        env.reset(seed=seed)
        while not env.step(np.zeros(1, np.float32))[2]:
            pass
    env.close()
    assert [len(frames) for frames, _ in clips] == [4, 4]
    assert {fps for _, fps in clips} == {10}


def test_record_video_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    if not hasattr(gym.wrappers.vector, "RecordVideo"):
        pytest.skip("this version of Gymnasium records no vector environment")
    clips = recorded_clips(monkeypatch)
    env = gym.make_vec("MetaLearn/Mixture-v0", num_envs=3, render_mode="rgb_array", horizon=3)
    env = gym.wrappers.vector.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros((3, 1), np.float32))
    env.close()
    assert clips
    assert {frame.shape for frames, _ in clips for frame in frames} == {clips[0][0][0].shape}


# Watch


def run(out: Path, *arguments: str, env_id: str = "MetaLearn/LinearRegression-v0") -> int:
    return main(["watch", "--env", env_id, "--out", str(out), *arguments])


def test_watch_writes_a_picture_for_each_step(env_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    out = tmp_path / "run.gif"
    assert run(out, "--controller", "bb1", "--env-kwargs", "horizon:3", "--fps", "20", env_id=env_id) == 0
    assert "4 pictures" in capsys.readouterr().out
    with image.open(out) as gif:
        assert (gif.n_frames, gif.size) == (4, (1200, 400))
        assert gif.info["duration"] == 50
        gif.seek(3)
        assert gif.info["duration"] == 2000


@pytest.mark.parametrize("controller", [*WATCHED, "policy"])
def test_every_controller_can_be_watched(controller: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if controller == "policy":
        controller = str(tmp_path / "mine.safetensors")
        Policy.untrained(history=2, seed=0).save(controller)
    families = RULES[controller].families if controller in RULES else ()
    env_id = f"MetaLearn/{families[0]}-v0" if families else "MetaLearn/LinearRegression-v0"
    assert 2 <= watch(env_id, controller, tmp_path / "run.gif", env_kwargs={"horizon": 3}) <= 4


def test_what_is_watched_is_the_task_of_the_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    losses: list[float] = []

    def kept(*arguments: Any, **options: Any) -> Scene:
        losses.append(scene_of(*arguments, **options).loss)
        return scene_of(*arguments, **options)

    monkeypatch.setattr("metalearn_env.watch.scene_of", kept)
    for split in ("test", "train"):
        watch(
            "MetaLearn/Mixture-v0", "do-nothing", tmp_path / "run.gif", seed=5, split=split, env_kwargs={"horizon": 2}
        )
        assert losses[-3:] == [gym.make("MetaLearn/Mixture-v0", split=split, horizon=2).reset(seed=5)[1]["loss"]] * 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--controller", "bogus"], "no controller 'bogus'"),
        (["--controller", "limit"], "limit is known after the fact, to scores alone"),
        (["--controller", "best-rule-per-task"], "best-rule-per-task is known after the fact, to scores alone"),
        (["--controller", "bb1", "--out", "run.png"], ".gif"),
        (["--controller", "bb1", "--out", "nowhere/run.gif"], "no folder"),
        (["--controller", "bb1", "--fps", "0"], "fps"),
        (["--controller", "bb1", "--fps", "51"], "fps"),
        (["--controller", "bb1", "--seed", "-1"], "seed"),
        (["--controller", "bb1", "--split", "dev"], "split"),
        (["--controller", "bb1", "--env-kwargs", "split:test"], "split"),
        (["--controller", "bb1", "--env-kwargs", "render_mode:human"], "render_mode"),
        (["--controller", "bb1", "--env-kwargs", "bogus:1"], "bogus"),
        (["--controller", "bb1", "--env", "MetaLearn/Bogus-v0"], "Bogus"),
        (["--controller", "tuned-constant", "--env", "MetaLearn/Mixture-v0"], "one family"),
    ],
)
def test_what_cannot_be_watched(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(Path("run.gif"), *arguments) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_a_gif_needs_is_told_with_the_line_that_installs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run(tmp_path / "run.gif", "--controller", "bb1") == 2
    assert 'pip install "metalearn-env[agents]"' in capsys.readouterr().err


def test_a_policy_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    Policy.untrained(history=2, seed=0).save(path)
    for options, named in (({"history": 3}, "features"), ({"action": "discrete"}, "action")):
        with pytest.raises(ValueError, match=named):
            watch("MetaLearn/LinearRegression-v0", str(path), tmp_path / "run.gif", env_kwargs=options)
    assert not (tmp_path / "run.gif").exists()
