"""The house that the modules stand in: a module imports strictly lower floors only, and heavy libraries where used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import metalearn_env

PACKAGE = Path(metalearn_env.__file__).parent
ROOT = Path(__file__).parent.parent
NAME = "metalearn_env"

TOLD = (
    "spectral",
    "momentum",
    "streaming",
    "centres",
    "visits",
    "entries",
    "tracking",
    "limited_memory",
)  # rules that are told of the task, or see more of it than inner products

#: A new module is given its floor here. Without one, a file of a folder lives on its floor and sees its ``__init__``.
FLOORS = {
    **dict.fromkeys(
        [
            "splits",
            "moves",
            "progress",
            "commandline",
            "pictures",
            "window",
            "identity",
            "files",
            "states",
            "scoring.formatting",
        ],
        0,
    ),
    **dict.fromkeys(["family", "panels"], 1),
    **dict.fromkeys(["ranges", "tails", "datasets", "least_squares", "kmeans", "markov", "engine", "risk"], 2),
    **dict.fromkeys(["softmax", "networks", "descents", "foresight"], 2),
    **dict.fromkeys(["perceptrons", "updates"], 3),
    **dict.fromkeys(["scoring.statistics", "scoring.cache"], 2),
    **dict.fromkeys(
        [
            "designs",
            "clusters",
            "labelled",
            "processes",
            "decision_process",
            "pool",
            "actions",
            "rewards",
            "rules",
            "mixed_engine",
            "scenes",
            "contract",
        ],
        3,
    ),
    **dict.fromkeys(
        ["garnets", "given_process", "gymnasium_processes", "decisions", "observations", "boards", "scoring.runs"], 4
    ),
    **dict.fromkeys(["network_tasks"], 4),
    **dict.fromkeys(["families", "krylov", "spaces"], 5),
    **dict.fromkeys(["mixture", "limits", "scoring.profiles", "knowledge", "driving", "model_descriptor"], 6),
    **dict.fromkeys(["session", "policy", *(f"rules.{name}" for name in TOLD)], 7),
    **dict.fromkeys(["scoring.tasks", "contract_of_options", "stepper"], 8),
    **dict.fromkeys(["scoring.rows", "scoring.sets", "scoring.ablations", "testing", "whole_data", "guard"], 9),
    **dict.fromkeys(["scoring", "scoring.controls", "scoring.measures"], 10),
    **dict.fromkeys(["rendering", "scoring.contenders"], 11),
    **dict.fromkeys(["envs", "scoring.table"], 12),
    **dict.fromkeys(["vector", "watch"], 13),
    **dict.fromkeys(["adapters", "", "__main__"], 14),
}
GYMNASIUM = {
    "commandline",
    "gymnasium_processes",
    "spaces",
    "envs",
    "vector",
    "rendering",
    "boards",
    "window",
    "watch",
    "scoring.tasks",
    "adapters",
    "",
    "__main__",
}
HEAVY = {"torch", "stable_baselines3", "sb3_contrib", "matplotlib", "sklearn", "scipy", "pandas", "tqdm", "keras"}

Import = tuple[str, bool]  # of a module or of a name in it; whether it happens when the module is imported


def names_of(path: Path) -> str:
    """Return the dotted name of a file inside the package, '' for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {names_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floor(module: str) -> int:
    name = module if module in FLOORS else module.partition(".")[0]
    assert name in FLOORS, f"give the module {name} its floor in {__file__}"
    return FLOORS[name]


def imports(tree: ast.AST, at_import: bool = True) -> Iterator[Import]:
    """Yield what a syntax tree imports; what stands in a function, or is for type checkers, happens not at import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((f"{node.module}.{alias.name}", at_import) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(node, False)
        else:
            yield from imports(node, at_import and not isinstance(node, (ast.FunctionDef, ast.Lambda)))


def inside(imported: str) -> str | None:
    """Return the module of the package that an import is of, or None."""
    if imported.partition(".")[0] != NAME:
        return None
    inner = imported.partition(".")[2]
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner


@cache
def edges() -> dict[str, set[str]]:
    """Return the modules of the package that each one imports, anywhere in its file, with the folders they are in."""
    found = {}
    for module, path in MODULES.items():
        modules = {inside(imported) for imported, _ in imports(ast.parse(path.read_text()))}
        found[module] = {name for name in modules if name is not None}
        folders = {name.rpartition(".")[0] for name in found[module]} - {""}
        found[module] |= {folder for folder in folders if not f"{module}.".startswith(f"{folder}.")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_lower_floors_only(module: str) -> None:
    for imported in edges()[module]:
        own_folder = imported and module.startswith(f"{imported}.")
        assert own_folder or floor(imported) < floor(module), f"{module} imports {imported}"


def test_there_is_no_cycle() -> None:
    graph = edges()
    while graph:
        free = {module for module, targets in graph.items() if not targets & graph.keys()}
        assert free, f"a cycle among {sorted(graph)}"
        graph = {module: targets for module, targets in graph.items() if module not in free}


def test_no_family_and_no_rule_imports_another() -> None:
    for module, targets in edges().items():
        for folder in ("families", "rules", "adapters"):
            if module.startswith(f"{folder}."):
                assert not any(target.startswith(f"{folder}.") for target in targets), module


@pytest.mark.parametrize("module", MODULES)
def test_gymnasium_is_met_at_the_top_only(module: str) -> None:
    tops = {imported.partition(".")[0] for imported, _ in imports(ast.parse(MODULES[module].read_text()))}
    assert "gymnasium" not in tops or {module, module.partition(".")[0]} & GYMNASIUM


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith("adapters")])
def test_heavy_libraries_are_imported_where_used(module: str) -> None:
    found = imports(ast.parse(MODULES[module].read_text()))
    assert not {imported.partition(".")[0] for imported, at_import in found if at_import} & HEAVY


def test_importing_is_light(run_python: Any) -> None:
    code = f"""
import sys
import {NAME}
print({NAME}.__version__, *({HEAVY} & sys.modules.keys()))
"""
    assert run_python(code).split() == [metalearn_env.__version__]


def test_listing_and_making_are_light(run_python: Any) -> None:
    code = f"""
import sys
import gymnasium as gym
env = gym.make("{NAME}:MetaLearn/LinearRegression-v0", render_mode="rgb_array")
env.reset(seed=0)
env.step(env.action_space.sample())
print("made", *({HEAVY} & sys.modules.keys()))
"""
    assert run_python(code).split() == ["made"]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text()))


def test_every_module_can_be_imported_alone(run_python: Any) -> None:
    """One process, each module imported with the others forgotten, so that no order is taken for granted."""
    plain = [module for module in MODULES if module and not module.startswith(("adapters.", "__main__"))]
    code = f"""
import importlib, sys
for module in {plain}:
    for loaded in [name for name in sys.modules if name.startswith("{NAME}")]:
        del sys.modules[loaded]
    importlib.import_module("{NAME}." + module)
print("all")
"""
    assert run_python(code) == "all"


# What runs from a checkout

OUTSIDE = [path for folder in ("agents", "examples", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_public_names_are_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for imported, _ in imports(tree):
        parts = imported.split(".")
        assert parts[0] != NAME or not any(part.startswith("_") and part != "__main__" for part in parts), imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            public = node.attr in ("_replace", "_asdict", "_make", "_fields")  # of named tuples, whose names are theirs
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert public or own, ast.unparse(node)


def test_the_package_knows_nothing_of_what_uses_it() -> None:
    for module, path in MODULES.items():
        tops = {imported.partition(".")[0] for imported, _ in imports(ast.parse(path.read_text()))}
        assert not tops & {"agents", "examples", "benchmarks", "tests"}, module
