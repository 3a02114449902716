"""Arguments as the files of rl-zoo write them, ``dict(net_arch=[64, 64], activation_fn=nn.ReLU)``, read as data.

rl-zoo runs such text. Here it is taken apart: calls of ``dict``, lists, tuples, numbers, text and truth values, and the
units that networks may have. Anything else is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

UNITS = {"ReLU": "relu", "Tanh": "tanh"}  # of torch.nn, and what they are called here
SHOWN = 100  # characters, at most, in a message


def arguments(name: str, text: str) -> dict[str, Any]:
    """Return the arguments that the text of a hyperparameter of that name is a call with.

    >>> arguments("policy_kwargs", "dict(net_arch=dict(pi=[64], vf=[64, 64]), activation_fn=nn.ReLU)")
    {'net_arch': {'pi': [64], 'vf': [64, 64]}, 'activation_fn': 'relu'}

    Raises:
        ValueError: it is no call of dict, or has something else in it.
    """
    rule = f"{name} is text such as dict(net_arch=[64, 64]), which is not run"
    try:
        found = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{rule}; {text[:SHOWN]!r} is not read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{rule}, not {text[:SHOWN]!r}")
    return found


def text(given: Mapping[str, Any]) -> str:
    """Return the text that names these arguments.

    >>> text({"net_arch": {"pi": [64], "vf": [64, 64]}, "activation_fn": "relu"})
    'dict(net_arch=dict(pi=[64], vf=[64, 64]), activation_fn=nn.ReLU)'
    """
    return f"dict({', '.join(f'{name}={_text(name, value)}' for name, value in given.items())})"


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return text(value)
    if name == "activation_fn":
        return next(f"nn.{unit}" for unit, called in UNITS.items() if called == value)
    return repr(value)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=given) if _told_apart(given):
            return {one.arg: _value(one.value) for one in given}
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
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
