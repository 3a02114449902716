"""One episode as an animated GIF: ``python -m metalearn_env watch``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.boards import INSTALL, Board
from metalearn_env.commandline import check_writable, key_value, told_once
from metalearn_env.engine import Engine
from metalearn_env.envs import StepSizeEnv
from metalearn_env.policy import load
from metalearn_env.ranges import as_integer
from metalearn_env.rendering import RENDER_FPS, comparisons, scene_of
from metalearn_env.rules import RULES, Rule, rule, rules_of
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring import TaskSet, rollout
from metalearn_env.scoring.controls import BOUNDS, PLAIN, TUNED_SHAPES, tuned

WATCHED = (*RULES, *PLAIN, *TUNED_SHAPES, "oracle-constant")
FASTEST = 50  # pictures a second that a GIF can show
LAST_SECONDS = 2.0


def watch(
    env_id: str,
    controller: str,
    out: str | Path,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    split: str = "test",
    seed: int = 0,
    fps: int = RENDER_FPS,
) -> int:
    """Play one episode and write it as an animated GIF; return the number of its pictures.

    There is one for the start and one for each inner step: fewer than horizon + 1 if the inner run diverges, or if the
    rule pays for evaluations. As in scoring, the step size to start from is the unit of the task.

    Args:
        env_id: a registered id, or ``"module:id"``.
        controller: a rule, a control, a shipped policy, or a policy file.
        out: a path that ends in .gif.
        env_kwargs: what ``gym.make`` takes for the id.
        split, seed: the task is that of ``gym.make(env_id, split=split, **env_kwargs).reset(seed=seed)``.
        fps: pictures a second, 1 to 50.

    Raises:
        FileNotFoundError: there is no such controller.
        ValueError: a value that cannot be honoured, or a policy that does not fit the environment.
        gymnasium.error.DependencyNotInstalled: there is no Matplotlib, or no Pillow.
        OSError: the file cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() != ".gif":
        raise ValueError(f"out is a path that ends in .gif, not {str(out)!r}")
    if as_integer("fps", fps, minimum=1) > FASTEST:
        raise ValueError(f"fps is at most {FASTEST}, not {fps}")
    check_writable(out)
    return write_gif(out, pictures(env_id, controller, dict(env_kwargs or {}), split, seed), fps)


def pictures(
    env_id: str, controller: str, env_kwargs: dict[str, Any], split: str, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of an episode, (400, 1200, 3) each; see `watch`."""
    for option in ("split", "render_mode", "max_episode_steps"):
        if option in env_kwargs:
            raise ValueError(f"{option} is not among env_kwargs here: {env_kwargs[option]!r} cannot be honoured")
    env = gym.make(env_id, split=split, **env_kwargs).unwrapped
    if not isinstance(env, StepSizeEnv):
        raise ValueError(f"{env_id} is not an environment of a task family")
    env.reset(seed=as_integer("seed", seed, minimum=0))
    [(_, start, _)] = env.session.learners(np.zeros(1, np.int64))
    chosen = _controller(controller, env_id, env_kwargs, start, len(env.session.parts))
    horizon = int(start.horizon[0])
    [comparison] = comparisons(start.family, start.task, horizon)
    losses, step_sizes = np.full((2, horizon + 1), np.nan)
    board: Board | None = None
    for t, engine in enumerate(rollout(start.family, start.task, horizon, chosen)):
        if engine.t[0] < t:
            return
        losses[t], step_sizes[t] = engine.loss[0], engine.step_size[0]
        scene = scene_of(engine, 0, losses[: t + 1], step_sizes[1 : t + 1], player=Path(controller).stem)
        board = board or Board(scene, comparison)
        yield board.draw(scene)


def write_gif(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> int:
    """Write pictures, (H, W, 3) each, as a GIF that holds the last one and starts anew; return how many there are."""
    try:
        from PIL import Image
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(INSTALL) from error
    images = [Image.fromarray(frame).quantize(256) for frame in frames]
    seconds = [1.0 / fps] * (len(images) - 1) + [LAST_SECONDS]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[1000.0 * s for s in seconds], loop=0)
    return len(images)


def _controller(name: str, env_id: str, env_kwargs: dict[str, Any], start: Engine, parts: int) -> Rule:
    """Return a controller for the task that an engine of one learner is at the start of."""
    family, horizon = start.family, int(start.horizon[0])
    if name in PLAIN:
        return PLAIN[name]
    if name in RULES:
        if name not in rules_of(family):
            raise ValueError(f"{name} is not a rule for {type(family).__name__}")
        return rule(name)
    if name == "oracle-constant":
        [comparison] = comparisons(family, start.task, horizon)
        return schedule(np.full((horizon, 1), comparison.step_size))
    if name in TUNED_SHAPES:
        if parts > 1:
            raise ValueError(f"{name} is tuned for one family and axis; {env_id} has {parts}")
        return tuned(TaskSet(env_id, env_kwargs={**env_kwargs, "horizon": horizon}), TUNED_SHAPES[name])[2]
    if name in BOUNDS:
        raise ValueError(
            f"{name} is known after the fact, to scores alone, and chooses no steps; "
            f"what can be watched: {', '.join(WATCHED)}"
        )
    try:
        policy = load(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no controller {name!r}; known: {', '.join(WATCHED)}; {error}") from None
    policy.check_options(env_kwargs)
    return policy.step_sizes


def add_command(commands: Any) -> None:
    """Add ``watch`` to the commands of a parser."""
    command = commands.add_parser("watch", help="play one episode and write it as an animated GIF")
    command.set_defaults(run=_run)
    command.add_argument("--env", required=True, help="a registered id, or module:id")
    command.add_argument("--controller", required=True, metavar="NAME|FILE", help=", ".join(WATCHED) + ", or a policy")
    command.add_argument("--out", required=True, type=Path, metavar="FILE.gif")
    command.add_argument("--env-kwargs", nargs="+", type=key_value, default=[], metavar="KEY:VALUE")
    command.add_argument("--split", default="test")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--fps", type=int, default=RENDER_FPS)


def _run(options: argparse.Namespace) -> None:
    number = watch(
        options.env,
        options.controller,
        options.out,
        env_kwargs=told_once(options.env_kwargs),
        split=options.split,
        seed=options.seed,
        fps=options.fps,
    )
    print(f"{options.out}: {number} pictures")
