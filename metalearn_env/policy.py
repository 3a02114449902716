"""A trained policy as a file anyone may load: weights and a JSON header in one ``.safetensors``, run by NumPy.

>>> policy = Policy.untrained(history=1, seed=0)
>>> policy(np.zeros((2, 21), np.float32)).shape
(2, 1)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialised

from metalearn_env.driving import action_map, averaged, check_features, driven, meaning, resolution
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.files import write_whole
from metalearn_env.identity import described
from metalearn_env.observations import feature_names
from metalearn_env.ranges import as_history, as_integer

FORMAT = "metalearn_env policy 1"
SHIPPED = Path(__file__).parent / "policies"

ACTIVATIONS = ("tanh", "relu")
OUTPUTS = ("clip", "tanh")

Floats = NDArray[np.floating[Any]]

_MINUS_ONE, _ZERO, _ONE = (np.array(value, np.float32) for value in (-1, 0, 1))  # see `metalearn_env.family.TINY`


@dataclass(frozen=True, eq=False, repr=False)
class Policy:
    """A multilayer perceptron, from a flat observation to an action.

    Args:
        layers: (weight (out, in), bias (out,)) of each layer, in single or double precision.
        header: what the file says of it: ``history``, ``action``, ``strategy``, ``interval`` (1 if it tells none),
            ``opening`` (0), ``averaged`` (False), ``ritz`` (0) and ``resolution`` (0) of the environment it acts in,
            and its ``feature_names``; the hidden units, ``activation`` ("tanh", the default, or "relu"), and what
            brings the outputs into the box of actions, ``output`` ("clip", the default, or "tanh"; of discrete actions
            the largest output counts); the lowest and the highest value of every feature that it met in training,
            ``observed``, if it is to take what lies beyond them for the nearest of them; and where it comes from
            (environment, command, seed, versions, score).
    """

    layers: tuple[tuple[Floats, Floats], ...]
    header: dict[str, Any]

    @classmethod
    def untrained(cls, *, history: int, seed: int, width: int = 16) -> Policy:
        """Return a policy of random weights for relative actions."""
        rng, names = np.random.default_rng(seed), feature_names(as_history(history))
        sizes = (len(names), width, 1)
        layers = tuple(
            (rng.normal(size=(out, into)).astype(np.float32) / np.float32(into) ** 0.5, np.zeros(out, np.float32))
            for into, out in pairwise(sizes)
        )
        return cls(layers, {"history": history, "action": "relative", "strategy": "dynamic", "feature_names": names})

    def __repr__(self) -> str:
        widths = " -> ".join(str(len(bias)) for _, bias in self.layers)
        return f"Policy({len(self.header['feature_names'])} -> {widths}, {self.header['action']})"

    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Return the most likely action for each of n flat observations: (n, size), or (n,) if discrete with one part.

        Raises:
            ValueError: observations of another width than the policy was trained on.
        """
        (first, _), *_ = matrices = self._matrices
        if observations.ndim != 2 or observations.shape[1] != len(first):
            raise ValueError(f"observations have shape (n, {len(first)}), not {observations.shape}")
        output = observations
        if self._observed is not None:
            output = np.minimum(np.maximum(output, self._observed[0]), self._observed[1])
        for matrix, bias in matrices[:-1]:
            output = output.dot(matrix)
            output += bias
            np.tanh(output, out=output) if self._tanh else np.maximum(output, _ZERO, out=output)
        matrix, bias = matrices[-1]
        output = output.dot(matrix)
        output += bias
        choices = self._choices
        if choices is None:
            return np.tanh(output) if self._squashed else np.minimum(np.maximum(output, _MINUS_ONE), _ONE)
        if len(choices) == 1:
            return output.argmax(axis=1)
        parts = np.split(output, np.cumsum(choices)[:-1], axis=1)
        return np.stack([part.argmax(axis=1) for part in parts], axis=1)

    @cached_property
    def _matrices(self) -> list[tuple[Floats, Floats]]:
        """The layers as they are multiplied, (in, out)."""
        return [(np.ascontiguousarray(weight.T), bias) for weight, bias in self.layers]

    @cached_property
    def _observed(self) -> Floats | None:
        """The lowest and the highest value of every feature, (2, width), between which observations are kept."""
        observed = self.header.get("observed")
        return None if observed is None else np.array(observed, np.float32)

    @cached_property
    def _tanh(self) -> bool:
        return bool(self.header.get("activation", "tanh") == "tanh")

    @cached_property
    def _squashed(self) -> bool:
        return bool(self.header.get("output", "clip") == "tanh")

    @cached_property
    def _choices(self) -> tuple[int, ...] | None:
        return action_map(self.header, 1).choices

    @cached_property
    def digest(self) -> str:
        """What tells what it does from what others do: 16 hexadecimal digits."""
        told = [self.layers, self.options, self.header["feature_names"], self._tanh, self._squashed, self._observed]
        return sha256(json.dumps(described(told)).encode()).hexdigest()[:16]

    @property
    def options(self) -> dict[str, Any]:
        """What an environment is to be told so that observations and actions are those of the policy."""
        sees = {"averaged": averaged(self.header), "resolution": resolution(self.header)}
        return {"history": self.header["history"], **meaning(self.header), **sees}

    @property
    def interval(self) -> int:
        """Inner steps that a step size is held for, after the opening."""
        return action_map(self.header, 1).interval

    def decisions(self, horizon: int) -> NDArray[np.int64]:
        """Return after how many inner steps of an episode the policy decides, (D,).

        Raises:
            ValueError: the horizon is no whole number above 0.
        """
        return action_map(self.header, 1).decisions(as_integer("horizon", horizon, minimum=1))

    def step_sizes(self, engine: Engine) -> Iterator[Array]:
        """Yield a step size, (n,), for every inner step of the engine's episodes, like a rule of `metalearn_env.rules`.

        Raises:
            ValueError: the policy was trained on other features than this version observes.
        """
        return driven(self, self.header, engine)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` unless `options`, those of them that are asked for, are its own."""
        if "history" in options:
            asked = feature_names(as_history(options["history"]), self.options["ritz"])
            check_features(self.header["feature_names"], asked)
        for option, own in self.options.items():
            if option != "history" and options.get(option, own) != own:
                raise ValueError(f"the policy was trained with {option}={own!r}, not {options[option]!r}")

    def save(self, path: str | Path) -> None:
        """Write the policy to a file: all of it, or nothing."""
        tensors = {}
        for index, (weight, bias) in enumerate(self.layers):
            tensors[f"{index}.weight"], tensors[f"{index}.bias"] = np.ascontiguousarray(weight), bias
        write_whole(Path(path), serialised(tensors, {"format": FORMAT, "policy": json.dumps(self.header)}))


def as_policy(policy: Policy | str | Path) -> Policy:
    """Return a policy, or load the one of that name or path.

    Raises:
        FileNotFoundError, ValueError: see `load`.
        TypeError: it is none of these.
    """
    if isinstance(policy, (str, Path)):
        return load(policy)
    if not isinstance(policy, Policy):
        raise TypeError(f"policy is a Policy, or the name or path of one, not {type(policy).__name__}")
    return policy


def load(name: str | Path) -> Policy:
    """Load a shipped policy by its name, or any by its path.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the file is cut short, or not a policy.
    """
    path = Path(name)
    if not path.is_file():
        path = SHIPPED / f"{name}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none yet"
        raise FileNotFoundError(f"{str(name)!r} is neither a file nor a shipped policy (shipped: {shipped})")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dictionary)
    except (SafetensorError, TypeError) as error:  # such as of a type that NumPy has not
        raise ValueError(f"{path} is not a whole .safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a policy of this package: its format is {metadata.get('format')!r}, not {FORMAT!r}"
        )
    try:
        header = json.loads(metadata["policy"])
        layers = tuple((tensors.pop(f"{i}.weight"), tensors.pop(f"{i}.bias")) for i in range(len(tensors) // 2))
        _check(layers, header, list(tensors))
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a policy: {type(error).__name__}: {error}") from error
    return Policy(layers, header)


def _check(layers: tuple[tuple[Floats, Floats], ...], header: Any, unused: list[str]) -> None:
    """Raise ``ValueError``, ``TypeError`` or ``KeyError`` unless layers and header make a policy."""
    if not isinstance(header, dict):
        raise TypeError(f"the header is a dictionary, not {type(header).__name__}")
    history, names = as_integer("history", header["history"], minimum=0), header["feature_names"]
    if history > len(names):
        raise ValueError(f"there are features of each of {history} decisions, not {len(names)} in all")
    actions, _ = action_map(header, 1), averaged(header)
    check_features(names, feature_names(history, actions.ritz))
    resolution(header)  # a bad one is refused here
    for name, known in (("activation", ACTIVATIONS), ("output", OUTPUTS)):
        if header.get(name, known[0]) not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, not {header[name]!r}")
    observed = np.array(header.get("observed", np.zeros((2, len(header["feature_names"])))), np.float64)
    if observed.shape != (2, len(header["feature_names"])) or not (observed[0] <= observed[1]).all():
        raise ValueError(f"observed is the lowest and the highest value of every feature, not {header['observed']}")
    if not layers or unused:
        raise ValueError(f"a policy has at least one layer of weight and bias, and nothing else: {unused}")
    width = len(header["feature_names"])
    for index, (weight, bias) in enumerate(layers):
        if weight.dtype.kind != "f" or weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise ValueError(f"layer {index} takes {width} numbers; its weight is {weight.dtype} {weight.shape}")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"layer {index} is finite; it is not")
        width = len(bias)
    outputs = sum(actions.choices) if actions.choices else actions.size
    if width != outputs:
        raise ValueError(f"{header['action']} {header['strategy']} actions take {outputs} outputs, not {width}")
