"""What the tests share: every registered id, and Python run in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import gymnasium as gym
import pytest

import metalearn_env  # noqa: F401  (registers)
from metalearn_env.scoring.cache import FOLDER

NAMESPACE = "MetaLearn"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``env_id`` for every registered environment: new families need no new test.

    One that takes ``family_id`` is run for those of one family.
    """
    ours = {env_id: spec.kwargs for env_id, spec in gym.registry.items() if spec.namespace == NAMESPACE}
    if "env_id" in metafunc.fixturenames:
        metafunc.parametrize("env_id", sorted(ours))
    if "family_id" in metafunc.fixturenames:
        metafunc.parametrize("family_id", sorted(env_id for env_id, kwargs in ours.items() if "family" in kwargs))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep all results of the tests, and of processes that they start, out of the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Return a function that runs code in a fresh Python, warnings being errors, and returns what it prints."""

    def run(code: str, *, path: str | None = None, **environment: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        if path is not None:
            environment["PYTHONPATH"] = path
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
