"""The README and the examples do what they say, from an installed wheel outside the checkout."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from metalearn_env.policy import SHIPPED, Policy, load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = {
    "01_quickstart.py": [],
    "03_new_family.py": [],
    "02_train_ppo.py": ["--steps", "3200", "--num-envs", "16", "--tasks", "16"],
    "04_cleanrl_ppo.py": ["--steps", "3200", "--num-envs", "16", "--tasks", "16"],
    "06_sklearn.py": ["stand-in.safetensors"],
    "05_torch_training.py": ["--steps", "20"],
    "07_own_model.py": ["--episodes", "4"],
    "08_torchrl.py": ["--steps", "3200", "--num-envs", "16", "--tasks", "16"],
}
NEEDS = {"08_torchrl.py": "torchrl"}  # what is in none of the extras of the developers
POLICIES = {"05_torch_training.py": "neural-network", "07_own_model.py": "neural-network"}  # what they load


def run(arguments, **options):
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(["-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment for subprocesses in which only the wheel is found, and a folder outside the checkout.

    There is a policy in it that takes the place of a trained one.
    """
    site = tmp_path_factory.mktemp("site")
    run(["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel])
    Policy.untrained(history=5, seed=0).save(site / "stand-in.safetensors")
    return {"env": {**os.environ, "PYTHONPATH": str(site)}, "cwd": site}


def test_the_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"metalearn_env"}
    assert "metalearn_env/py.typed" in names
    shipped = {
        f"metalearn_env/policies/{path.name}" for path in (ROOT / "metalearn_env/policies").glob("*.safetensors")
    }
    assert shipped <= set(names)


def test_the_readme_tells_what_every_shipped_policy_reaches():
    rows = dict(re.findall(r"^\| \[`([a-z-]+)`\]\(docs/policies/\1\.md\) \| `[^`]+` \| (\S+) \|", README, re.MULTILINE))
    said = {}
    for path in SHIPPED.glob("*.safetensors"):
        tables = load(path).header["scores"]
        own = [row["iqm"] for table in tables for row in table["rows"] if row["controller"] == path.stem]
        said[path.stem] = sum(own) / len(own)
    assert set(rows) == set(said)
    for name, iqm in said.items():
        assert float(rows[name]) == pytest.approx(iqm, abs=6e-4), name


def test_the_installed_package_is_the_one_that_runs(installed):
    path = run(["-c", "import metalearn_env; print(metalearn_env.__file__)"], **installed)
    assert Path(path.strip()).is_relative_to(installed["cwd"])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_run_outside_the_checkout(name, installed, tmp_path):
    if (needed := NEEDS.get(name)) and not importlib.util.find_spec(needed):
        pytest.skip(f"{needed} is not installed")
    arguments = list(EXAMPLES[name])
    if (policy := POLICIES.get(name)) and not (SHIPPED / f"{policy}.safetensors").is_file():
        still = Policy.untrained(history=1, seed=0)
        layers = (*still.layers[:-1], (0.0 * still.layers[-1][0], still.layers[-1][1] - 0.01))
        Policy(layers, still.header).save(tmp_path / "stand-in.safetensors")
        arguments += ["--policy", tmp_path / "stand-in.safetensors"]
    assert run([ROOT / "examples" / name, *arguments], **installed)


@pytest.mark.parametrize("name", sorted(name for name, told in EXAMPLES.items() if "--steps" in told))
def test_examples_take_no_steps_that_there_are_not(name, installed):
    if (needed := NEEDS.get(name)) and not importlib.util.find_spec(needed):
        pytest.skip(f"{needed} is not installed")
    line = [sys.executable, ROOT / "examples" / name, "--steps", "-5"]
    result = subprocess.run(line, capture_output=True, text=True, check=False, **installed)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert "whole number >= 1, not" in result.stderr


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_readme_python_runs(index, installed):
    code = blocks("python")[index].replace("200_000", "12_800")
    assert run(["-c", code], **installed)


def test_readme_commands_run(tmp_path):
    """The training command, shortened, the scoring command on what it leaves, and a picture."""
    commands = [
        line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if line.startswith("python")
    ]
    assert [command.split()[2] for command in commands] == ["agents.train", "metalearn_env", "metalearn_env"]
    short = {"4_000_000": "12800", "score": "score --tasks 48"}
    short |= {"runs/mine": str(tmp_path / "mine"), "frozen-lake": str(tmp_path / "frozen-lake")}
    for command in commands:
        for long, replacement in short.items():
            command = command.replace(long, replacement)
        assert run([*shlex.split(command)[1:]], cwd=ROOT)


def test_readme_names_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`?make (\w+)", README)) - {"it"}
    assert {"demo", "test", "check"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_commands_name_no_place_of_the_machine_that_they_ran_on():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    commands = [(page.name, command) for page in pages for command in re.findall(r"`(python [^`]*)`", page.read_text())]
    assert commands
    assert not [(name, command) for name, command in commands if re.search(r"[\s=]/\w", command)]


def test_readme_links_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


MINIMAL = """
import sys
for name in ("torch", "stable_baselines3", "matplotlib", "sklearn", "scipy", "tqdm", "pandas", "keras"):
    sys.modules[name] = None
import gymnasium as gym
import numpy as np
import pytest
import metalearn_env
from metalearn_env.__main__ import main
env = gym.make("MetaLearn/LinearRegression-v0", render_mode="rgb_array")
env.reset(seed=0)
env.step(np.zeros(1, np.float32))
for action, error, words in (
    (env.unwrapped.render, gym.error.DependencyNotInstalled, "metalearn-env[agents]"),
    (lambda: gym.make("MetaLearn/LinearRegression-v0", dataset="diabetes"), ImportError, "metalearn-env[data]"),
    (lambda: __import__("metalearn_env.adapters.sb3"), ImportError, "metalearn-env[agents]"),
    (lambda: __import__("metalearn_env.adapters.sklearn"), ImportError, "metalearn-env[data]"),
    (lambda: __import__("metalearn_env.adapters.keras"), ImportError, "metalearn-env[keras]"),
    (lambda: __import__("metalearn_env.adapters.torch"), ImportError, "pip install torch"),
):
    with pytest.raises(error) as caught:
        action()
    assert words in str(caught.value), caught.value
text = gym.make("MetaLearn/LinearRegression-v0", render_mode="ansi")
text.reset(seed=0)
assert "step 0 of 50" in text.render()
raise SystemExit(main(["score", "--env", "MetaLearn/LinearRegression-v0", "--tasks", "16"]))
"""


def test_optional_dependencies_are_optional(installed):
    assert "limit" in run(["-c", MINIMAL], **installed)
