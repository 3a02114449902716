"""Networks in a batch, one for each task, in PyTorch, which is imported when they are made.

Every task has parameters of its own, flat in the rows of an array (n, p). What goes in and comes out are NumPy arrays
of float64. A user's `torch.nn.Module` is batched by `torch.func` (`functional_call`, `vmap`, `grad`); the package's own
perceptrons, of various shapes behind masks, are batched by hand in `metalearn_env.perceptrons`, many times faster.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cached_property
from importlib import import_module
from math import prod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array

INSTALL = 'networks need PyTorch: pip install torch (or "metalearn-env[agents]")'


def torch_itself() -> Any:
    """Return PyTorch, or raise ``ImportError`` with the line that installs it."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return torch


def made_by(module: Any) -> Callable[[], Any]:
    """Return the callable that makes a user's network, given itself or as ``"package.module:callable"``.

    Raises:
        TypeError: it is neither.
        ValueError: there is no such callable.
    """
    if isinstance(module, str):
        path, _, name = module.partition(":")
        try:
            module = getattr(import_module(path), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"module is a callable or 'package.module:callable', not {module!r}: {error}") from error
    if isinstance(module, torch_itself().nn.Module):
        raise TypeError(
            f"module is a callable that makes a torch.nn.Module, such as its class, not a {type(module).__name__}"
        )
    if not callable(module):
        raise TypeError(f"module is a callable that returns a torch.nn.Module, not {type(module).__name__}")
    return module


class Networks(abc.ABC):
    """n networks at work.

    Args:
        precision: "float64" or "float32", inside.
        device: "cpu" or "cuda".

    Raises:
        ImportError: there is no PyTorch.
        ValueError: there is no such device.
    """

    num_parameters: int

    def __init__(self, precision: str, device: str) -> None:
        torch = self.torch = torch_itself()
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' cannot be honoured: PyTorch finds none")
        self.dtype, self.device = getattr(torch, precision), device

    @abc.abstractmethod
    def outputs(self, theta: Array, inputs: Array, shape: tuple[Array, ...]) -> Array:
        """Return what networks theta (n, p) answer to inputs (n, b, ...): (n, b, outputs)."""

    @abc.abstractmethod
    def losses(self, theta: Array, inputs: Array, targets: NDArray[Any], shape: tuple[Array, ...]) -> Array:
        """Return the losses, (n,), on examples (n, b, ...) and their targets (n, b) or (n, b, outputs)."""

    @abc.abstractmethod
    def losses_and_gradients(
        self, theta: Array, inputs: Array, targets: NDArray[Any], shape: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        """Return the losses, (n,), and their gradients, (n, p)."""

    def real(self, array: NDArray[Any]) -> Any:
        """Return an array as a new tensor of the precision inside."""
        return self.torch.tensor(array, dtype=self.dtype, device=self.device)


def back(tensor: Any) -> Array:
    """Return a tensor as an array of float64."""
    found: Array = tensor.double().cpu().numpy()
    return found


@final
class Modules(Networks):
    """Networks of a module of a user's own. Their shapes are empty. What is frozen is as in a module of seed 0.

    On the CPU each is asked by itself, so that its answers do not depend on the others to the last bit.

    Args:
        make: returns the module; its parameters' sizes do not vary.
        criterion: "cross-entropy" (outputs are scores of classes) or "squared" (half the mean squared error).

    Raises:
        TypeError: what is made is no `torch.nn.Module`.
        ValueError: the module draws random numbers or keeps a state, or has no parameters.
    """

    def __init__(self, make: Callable[[], Any], criterion: str, precision: str, device: str) -> None:
        super().__init__(precision, device)
        self._make, self._squared = make, criterion == "squared"
        self._module = self._checked(self._made(0)).to(device=device, dtype=self.dtype)
        self._sizes = {name: tuple(parameter.shape) for name, parameter in _trained(self._module)}
        self.num_parameters = sum(map(prod, self._sizes.values()))
        if not self.num_parameters:
            raise ValueError("a module has parameters to be trained; this one has none")

    @property
    def matrices(self) -> int:
        """How many parameters have at least two axes."""
        return sum(len(size) > 1 for size in self._sizes.values())

    def check_pure(self, inputs: Array) -> None:
        """Raise ``ValueError`` if the module, asked twice for inputs (b, ...), changes a buffer or its answers."""
        before, given = deepcopy(dict(self._module.named_buffers())), self.real(inputs)
        with self.torch.random.fork_rng(devices=[]), self.torch.no_grad():
            first, second = (self._module(given) for _ in range(2))
        for name, buffer in self._module.named_buffers():
            if name not in before or not _same(buffer, before[name]):
                raise ValueError(f"a module keeps no state; this one changes its buffer {name!r} when it is asked")
        if not _same(first, second):
            raise ValueError("a module keeps no state and draws no numbers; this one changes its answers")

    def initial(self, seed: int) -> Array:
        """Return the parameters, (p,), of a module made after ``torch.manual_seed``; torch's own state is kept."""
        flat = [parameter.detach().reshape(-1).double() for _, parameter in _trained(self._made(seed))]
        return np.asarray(self.torch.cat(flat).numpy(), np.float64)

    def _made(self, seed: int) -> Any:
        with self.torch.random.fork_rng(devices=[]):
            self.torch.manual_seed(seed)
            return self._make()

    def outputs(self, theta: Array, inputs: Array, shape: tuple[Array, ...]) -> Array:
        (found,) = self._asked(self._functions[0], theta, inputs)
        return found

    def losses(self, theta: Array, inputs: Array, targets: NDArray[Any], shape: tuple[Array, ...]) -> Array:
        (found,) = self._asked(self._functions[1], theta, inputs, targets)
        return found

    def losses_and_gradients(
        self, theta: Array, inputs: Array, targets: NDArray[Any], shape: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        gradient, loss = self._asked(self._functions[2], theta, inputs, targets)
        return loss, gradient

    @cached_property
    def _functions(self) -> tuple[Any, Any, Any]:
        from torch.func import functional_call, grad_and_value, vmap
        from torch.nn.functional import cross_entropy

        def answer(parameters: Any, inputs: Any) -> Any:
            return functional_call(self._module, parameters, (inputs,))

        def loss(parameters: Any, inputs: Any, targets: Any) -> Any:
            found = answer(parameters, inputs)
            return 0.5 * ((found - targets) ** 2).mean() if self._squared else cross_entropy(found, targets)

        def flat_gradient(parameters: Any, *given: Any) -> Any:
            gradient, value = grad_and_value(loss)(parameters, *given)
            return self.torch.cat([gradient[name].reshape(-1) for name in self._sizes]), value

        return vmap(answer), vmap(loss), vmap(flat_gradient)

    def _asked(self, question: Any, theta: Array, inputs: Array, targets: NDArray[Any] | None = None) -> list[Array]:
        given = [self.real(inputs)]
        if targets is not None:
            given.append(self.real(targets) if self._squared else self.torch.tensor(targets, device=self.device).long())
        parameters = dict(self._taken_apart(self.real(theta[:, : self.num_parameters])))
        size = 1 if self.device == "cpu" else len(theta)
        parts = []
        with self.torch.no_grad():
            for first in range(0, len(theta), size):
                rows = slice(first, first + size)
                found = question({name: of[rows].clone() for name, of in parameters.items()}, *(g[rows] for g in given))
                parts.append(found if isinstance(found, tuple) else (found,))
        return [back(self.torch.cat(of)) for of in zip(*parts, strict=True)]

    def _taken_apart(self, theta: Any) -> Iterator[tuple[str, Any]]:
        first = 0
        for name, size in self._sizes.items():
            yield name, theta[:, first : first + prod(size)].reshape(-1, *size)
            first += prod(size)

    def _checked(self, module: Any) -> Any:
        nn = self.torch.nn
        if not isinstance(module, nn.Module):
            raise TypeError(f"module makes a torch.nn.Module, not {type(module).__name__}")
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd) and not part.p:
                part.eval()  # draws nothing, and `vmap` lets it be
            elif isinstance(part, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)):
                raise ValueError(f"a module keeps no state and draws no numbers; {type(part).__name__} does")
        return module


def _same(first: Any, second: Any) -> bool:
    """Return whether two tensors are equal, NaN being NaN."""
    return np.array_equal(first.cpu().numpy(), second.cpu().numpy(), equal_nan=True)


def _trained(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and parameters that are not frozen."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)
