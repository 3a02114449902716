"""Hyperparameters as they are written: a file in the format of rl-zoo (``agents/hyperparameters/ALGO.yml``), and what
goes before it on the command line.

    MetaLearn/LinearRegression-v0:   # the id, or "default" for any other
      n_timesteps: 1000000           # of the run, and n_envs: rows of the environment
      policy: MlpPolicy
      learning_rate: lin_1e-3        # a number, or one that falls linearly to 0
      policy_kwargs: dict(net_arch=[64, 64], activation_fn=nn.ReLU)
      env_kwargs: {action: discrete}

Everything else is an argument of the algorithm, or of `agents.views`. Values are data, never code: the text that rl-zoo
runs, as above, is taken apart here: calls of ``dict``, lists, tuples, numbers, text, truth values and the units of
networks; the rest is refused. ``policy_kwargs: {net_arch: [64, 64], activation_fn: relu}`` is the same, but rl-zoo does
not know units by name, nor what `agents.views` has.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

FOLDER = Path(__file__).parent / "hyperparameters"
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
UNITS = {unit.__name__: name for name, unit in ACTIVATIONS.items()}
SHOWN = 100  # characters of a text, at most, in a message


def read(path: Path, env_id: str) -> dict[str, Any]:
    """Return the hyperparameters of a file for an environment, an id with or without "module:".

    Raises:
        ValueError: the file is not in the format, or has neither the id nor "default".
        OSError: there is no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    known = content if isinstance(content, dict) else {}
    found = known.get(env_id.rpartition(":")[2], known.get("default"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} has no hyperparameters for {env_id}, only for {', '.join(map(str, known)) or 'none'}")
    return {str(name): _value(str(name), value) for name, value in found.items()}


def override(text: str) -> tuple[str, Any]:
    """Parse ``name:value``, the value as JSON or YAML.

    >>> override("learning_rate:lin_3e-4"), override("policy_kwargs:{net_arch: [32, 32]}")
    (('learning_rate', 'lin_3e-4'), ('policy_kwargs', {'net_arch': [32, 32]}))
    >>> override("policy_kwargs:dict(net_arch=dict(pi=[64], vf=[64, 64]), activation_fn=nn.ReLU)")
    ('policy_kwargs', {'net_arch': {'pi': [64], 'vf': [64, 64]}, 'activation_fn': 'relu'})

    Raises:
        ValueError: it is of another form, or a value is neither JSON nor YAML nor such a text.
    """
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise ValueError(f"{text!r} is not of the form name:value")
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        try:
            found = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"the value of {name} is neither JSON nor YAML: {value!r}") from error
    return name, _value(name, found)


def written(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as a file has them that rl-zoo can read, too.

    >>> written({"gamma": 1.0, "policy_kwargs": {"net_arch": {"pi": [64], "vf": [8]}, "activation_fn": "relu"}})
    {'gamma': 1.0, 'policy_kwargs': 'dict(net_arch=dict(pi=[64], vf=[8]), activation_fn=nn.ReLU)'}
    """
    networks = given.get("policy_kwargs") or {}
    return {**given, **({"policy_kwargs": _call(networks)} if "activation_fn" in networks else {})}


def _value(name: str, value: Any) -> Any:
    """Return what YAML takes for text as what it is: arguments by name, or a number, such as 1e-3."""
    if isinstance(value, str):
        if name.endswith("_kwargs"):
            return _arguments(name, value)
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _arguments(name: str, text: str) -> dict[str, Any]:
    """Return the arguments that the text of a hyperparameter of that name is a call with.

    Raises:
        ValueError: it is no call of dict, or has something else in it.
    """
    rule = f"{name} is text such as dict(net_arch=[64, 64]), which is not run"
    try:
        found = _data(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{rule}; {text[:SHOWN]!r} is not read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{rule}, not {text[:SHOWN]!r}")
    return found


def _data(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=given) if _told_apart(given):
            return {one.arg: _data(one.value) for one in given}
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_data(part) for part in parts]
        case ast.Attribute(value=ast.Name(id="nn"), attr=unit) if unit in UNITS:
            return UNITS[unit]
        case ast.Constant(value=int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            known = ", ".join(f"nn.{unit}" for unit in UNITS)
            raise ValueError(
                f"{ast.unparse(node)!r} is no dict(name=value), list, number, text, truth value, or {known}"
            )


def _told_apart(given: list[ast.keyword]) -> bool:
    """Return whether all arguments have names, no two the same."""
    return len({one.arg for one in given} - {None}) == len(given)


def _call(given: Mapping[str, Any]) -> str:
    """Return the text of a call of dict."""
    return f"dict({', '.join(f'{name}={_text(name, value)}' for name, value in given.items())})"


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return _call(value)
    return f"nn.{ACTIVATIONS[value].__name__}" if name == "activation_fn" else repr(value)
