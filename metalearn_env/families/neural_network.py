"""Neural networks by stochastic gradients, momentum or Adam: deep inner learners, in PyTorch, batched over tasks.

The direction is the optimiser's own update, so that the step size is what ``lr`` is in `torch.optim`; the optimiser's
state is carried along in theta. The signal is the loss of the step's minibatch; the loss that of all examples for
training, or of others that are held out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env import datasets
from metalearn_env.descents import KEPT, OPTIMIZERS, descent, natural_step, num_carried
from metalearn_env.family import Array, Evaluation, Kind, TaskFamily
from metalearn_env.identity import NAMES_CODE
from metalearn_env.moves import above, axes_of, further, smaller_batch
from metalearn_env.network_tasks import NetworkLaw, NetworkTask
from metalearn_env.networks import Modules, made_by
from metalearn_env.perceptrons import ACTIVATIONS, Perceptrons
from metalearn_env.pictures import Decisions, Fit, projected
from metalearn_env.ranges import Range, as_decades, as_integer, as_range, is_number, zero_or_range
from metalearn_env.tails import Tails, check_tails

Optimizer = Literal["sgd", "momentum", "adam"]
CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": OPTIMIZERS,
    "objective": ("training", "validation"),
    "activation": ("mixed", *ACTIVATIONS),
    "criterion": ("cross-entropy", "squared"),
    "precision": ("float64", "float32"),
    "device": ("cpu", "cuda"),
}
MOST_DECADES = 30.0
HELD_OUT = 0.5  # of as many as there are for training
OF_PERCEPTRONS = ("width", "depth", "activation", "gain")
OF_TEACHERS = ("dimension", "classes", "noise", "tails", "decay", "offset")


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class NeuralNetwork(TaskFamily[NetworkTask]):
    """Perceptrons of random depth, width and activation on teachers of the same shape, or on data; or one's own model.

    Args:
        optimizer: whose update is the direction: "sgd", "momentum" or "adam" (0.9, 0.999, epsilon 1e-8).
        momentum: of the optimizer "momentum".
        objective: what the loss is of: all examples for "training", or half as many held out, "validation".
        width, depth: units of a hidden layer, and hidden layers.
        activation: "tanh", "relu", "gelu" (by tanh), or "mixed", a third of each.
        dimension, classes: of synthetic tasks. Default: 2 to 8, and 2 to 4.
        examples: for training. Default: 64, of a data set at most half of the rows of the split.
        monitored: of how many of the examples for training the loss is; default: of all. A sample of them is cheaper.
        noise: share of the teacher's labels that are replaced by random ones.
        tails: of synthetic inputs: "normal", or "heavy", those of Student's t with 3 degrees of freedom.
        decay: variances of synthetic inputs fall like 1 / index^decay; their mean is 1.
        offset: mean of synthetic inputs, in their standard deviations.
        gain: what the first weights of a perceptron are multiplied by; at 1 signals keep their size through layers.
        scale: the objective is multiplied by 10^U(-scale, scale); a pair (low, high) is of decades up or down.
        batch_size: examples that a step sees, drawn with replacement; None: all of them.
        dataset: "iris", "wine", "digits", "breast_cancer", or arrays (X, y): tasks are subsamples of its rows.
        module: a callable that returns a `torch.nn.Module`, or ``"package.module:callable"``; with ``dataset=(X, y)``,
            which is handed to it as it is, X (m, ...). It must work under `torch.func.vmap`, draw no random numbers and
            keep no state. First parameters are those of a new module for every task; frozen ones, and buffers, are
            those of one module for all.
        criterion: "cross-entropy", or "squared" (half the mean squared error, y (m, q)) of a module of one's own.
        precision: "float64" or "float32", inside.
        device: "cpu" or "cuda"; the latter gives the same to rounding only.
        split: which stream of tasks, or which rows of the data set (which has none for "ood").

    A range (low, high) is drawn from log-uniformly; a number is a range of one value. The reference loss is 0, a lower
    bound, which tasks of a teacher without noise come arbitrarily near to.

    Raises:
        ImportError: there is no PyTorch.
        ValueError, TypeError: a value that cannot be honoured.
    """

    kind: ClassVar[Kind] = "supervised"
    descriptor_names: ClassVar[tuple[str, ...]] = (
        "log10_dimension",
        "log10_parameters",
        "hidden_layers",
        "log10_classes",
        "inverse_batch_size",
        "relu",
        "gelu",
        "optimizer",
    )
    parameters_at_once: ClassVar[int] = 2**20

    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    objective: str = "training"
    width: Range = (4, 16)
    depth: Range = (1, 2)
    activation: str = "mixed"
    dimension: Range | None = None
    classes: Range | None = None
    examples: int | None = None
    monitored: int | None = None
    noise: Range = 0.0
    tails: Tails = "normal"
    decay: Range = 0.0
    offset: Range = 0.0
    gain: Range = 1.0
    scale: Range = 3.0
    batch_size: int | None = 16
    dataset: str | tuple[Any, Any] | None = None
    module: Any = field(default=None, metadata={NAMES_CODE: True})
    criterion: str = "cross-entropy"
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._law  # noqa: B018  (a bad value is found out here)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be made again: PyTorch's functions are not to be copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _law(self) -> NetworkLaw:
        self._check_choices()
        common: dict[str, Any] = {
            "activations": ACTIVATIONS if self.activation == "mixed" else (self.activation,),
            "width": as_range("width", self.width, minimum=1, integer=True),
            "depth": as_range("depth", self.depth, minimum=1, integer=True),
            "noise": zero_or_range("noise", self.noise, maximum=1.0),
            "tails": self.tails,
            "decay": zero_or_range("decay", self.decay, maximum=4.0),
            "offset": zero_or_range("offset", self.offset, maximum=100.0),
            "gain": as_range("gain", self.gain, minimum=1e-3, maximum=1e3),
            "scale": as_decades("scale", self.scale, most=MOST_DECADES),
            "batch_size": 0 if self.batch_size is None else as_integer("batch_size", self.batch_size, minimum=1),
        }
        return self._of_perceptrons(common) if self.module is None else self._of_ones_own(common)

    def _check_choices(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.optimizer != "momentum":
            self._refuse(f"the optimizer {self.optimizer!r}", "momentum")
        if not is_number(self.momentum) or not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum is in [0, 1), not {self.momentum!r}")
        check_tails(self.tails)

    def _of_perceptrons(self, common: dict[str, Any]) -> NetworkLaw:
        self._refuse("a perceptron", "criterion")
        sizes = self._of_teachers() if self.dataset is None else self._of_data(self.dataset)
        widest, deepest = common["width"][1], common["depth"][1]
        ends = [sizes["dimension"][1], *[widest] * deepest, sizes["classes"][1]]
        layers = tuple(pairwise(ends))
        return NetworkLaw(networks=Perceptrons(layers, self.precision, self.device), layers=layers, **sizes, **common)

    def _of_teachers(self) -> dict[str, Any]:
        dimension = (2, 8) if self.dimension is None else self.dimension
        classes = (2, 4) if self.classes is None else self.classes
        return {
            "dimension": as_range("dimension", dimension, minimum=1, integer=True),
            "classes": as_range("classes", classes, minimum=2, integer=True),
            **self._examples(None),
        }

    def _of_data(self, dataset: str | tuple[Any, Any]) -> dict[str, Any]:
        self._refuse("a data set", *OF_TEACHERS)
        inputs, targets = datasets.load_classes(dataset)
        rows = datasets.standardised(inputs, self.split)
        return {
            "dimension": rows.shape[1:] * 2,
            "classes": (int(targets.max()) + 1,) * 2,
            "data": rows,
            "targets": datasets.rows_of(targets, self.split),
            **self._examples(len(rows)),
        }

    def _of_ones_own(self, common: dict[str, Any]) -> NetworkLaw:
        self._refuse("a module of one's own", *OF_PERCEPTRONS, *OF_TEACHERS)
        if self.dataset is None or isinstance(self.dataset, str):
            raise ValueError(f"a module of one's own comes with dataset=(X, y), not {self.dataset!r}")
        inputs, targets = datasets.load_examples(self.dataset, labels=self.criterion == "cross-entropy")
        networks = Modules(made_by(self.module), self.criterion, self.precision, self.device)
        classes = int(targets.max()) + 1 if self.criterion == "cross-entropy" else targets.shape[1]
        rows = datasets.rows_of(inputs, self.split)
        sizes: dict[str, Any] = {**self._examples(len(rows)), **common}
        law = NetworkLaw(
            networks=networks,
            layers=(),
            dimension=(int(np.prod(inputs.shape[1:])),) * 2,
            classes=(classes, classes),
            data=rows,
            targets=datasets.rows_of(targets, self.split),
            **sizes,
        )
        networks.check_pure(rows[:2])
        found = networks.outputs(networks.initial(0)[None], rows[None, :2], ())[0]
        if found.shape != (2, classes):
            raise ValueError(f"a module answers 2 examples with an array (2, {classes}), not {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError(f"a module's answers are finite at first, not {found.tolist()}")
        return law

    def _examples(self, rows: int | None) -> dict[str, int]:
        """Return how many examples there are for training, and held out, where there are so many rows."""
        most = 64 if rows is None else min(64, max(rows // 2, 1))
        examples = as_integer("examples", most if self.examples is None else self.examples, minimum=1)
        held_out = max(1, int(HELD_OUT * examples)) if self.objective == "validation" else 0
        if held_out:
            self._refuse("the loss of examples that are held out", "monitored")
        monitored = examples if self.monitored is None else as_integer("monitored", self.monitored, minimum=1)
        if monitored > examples:
            raise ValueError(f"monitored is at most {examples}, the examples for training, not {monitored}")
        if rows is not None and examples + held_out > rows:
            raise ValueError(
                f"examples, with those held out {examples + held_out}, are at most {rows}, the rows of the data set's "
                f"split {self.split!r}"
            )
        return {"examples": examples, "held_out": held_out, "monitored": monitored}

    def axes(self) -> dict[str, dict[str, Any]]:
        law = self._law
        if law.data is not None:
            return {}
        most = law.classes[1]
        return axes_of(
            dimension=above("dimension", law.dimension, 2, 4),
            classes={"classes": (most + 1, 2 * most)},
            width=above("width", law.width, 2, 4),
            depth={"depth": (law.depth[1] + 1, 2 * law.depth[1])},
            noise={"noise": (0.05, 0.2)} if not law.noise[1] else above("noise", law.noise, 1, 4, 1.0),
            batch_size=smaller_batch(self.batch_size),
            scale=further(law.scale, MOST_DECADES),
            heavy_tails={"tails": "heavy"} if self.tails == "normal" else {},
        )

    @property
    def num_parameters(self) -> int:
        return self._law.networks.num_parameters + self.num_carried

    @property
    def num_carried(self) -> int:
        return num_carried(self.optimizer, self._law.networks.num_parameters)

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        return self._law.draw(rng, n, horizon)

    def complete(self, draw: Any) -> NetworkTask:
        return self._law.build(draw)

    def start(self, task: NetworkTask) -> Array:
        return np.concatenate([task.first, np.zeros((len(task.first), self.num_carried))], axis=1)

    def loss(self, task: NetworkTask, theta: Array) -> Array:
        law = self._law
        first, last = (law.examples, law.examples + law.held_out) if law.held_out else (0, law.monitored)
        which = np.broadcast_to(np.arange(first, last), (len(theta), last - first))
        return task.objective * law.networks.losses(theta, *law.examples_at(task, which), self._shape(task))

    def signal(self, task: NetworkTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).signal

    def direction(self, task: NetworkTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self._seen(task, theta, t)[1]

    def evaluate(self, task: NetworkTask, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        return Evaluation(self.loss(task, theta), *self._seen(task, theta, t))

    def _seen(self, task: NetworkTask, theta: Array, t: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return the signal, (n,), and the direction, (n, p), at times t."""
        which = task.batches[np.arange(len(t)), t] if self.batch_size else self._all(len(t))
        signal, gradient = self.losses_and_gradients(task, theta, which)
        state = theta[:, self._law.networks.num_parameters :]
        return signal, descent(self.optimizer, self.momentum, gradient, state, t)

    def losses_and_gradients(self, task: NetworkTask, theta: Array, which: NDArray[Any]) -> tuple[Array, Array]:
        """Return the losses, (n,), on some examples, (n, b), and their gradients in the parameters of the networks."""
        law = self._law
        loss, gradient = law.networks.losses_and_gradients(theta, *law.examples_at(task, which), self._shape(task))
        return task.objective * loss, task.objective[:, None] * gradient

    @property
    def num_examples(self) -> int:
        """How many examples of a task are for training."""
        return self._law.examples

    @property
    def of_all_examples(self) -> bool:
        """Whether the loss is that of all examples for training."""
        return self._law.monitored == self._law.examples and not self._law.held_out

    def _all(self, n: int) -> NDArray[np.int64]:
        return np.broadcast_to(np.arange(self._law.examples), (n, self._law.examples))

    def descriptor(self, task: NetworkTask) -> Array:
        kind = OPTIMIZERS.index(self.optimizer) / (len(OPTIMIZERS) - 1)
        return np.concatenate([task.descriptor, np.full((len(task.first), 1), kind)], axis=1)

    def step_unit(self, task: NetworkTask, first: Evaluation) -> Array:
        """Return the step that would bring f to 0 were it linear, but none that moves theta by more than a tenth."""
        p = self._law.networks.num_parameters
        direction, share = first.direction[:, :p], 1.0
        gradient = -direction
        if self.optimizer == "adam":
            gradient = first.direction[:, p : 2 * p] / (1.0 - KEPT)  # the mean of g has moved by so much of it
        elif self.optimizer == "momentum":
            share = 1.0 - self.momentum
        slope, size = -np.vecdot(gradient, direction), np.sqrt(np.vecdot(task.first, task.first))
        return natural_step(first.signal, slope, size, np.sqrt(np.vecdot(direction, direction)), share=share)

    def reference_loss(self, task: NetworkTask) -> Array:
        return np.zeros(len(task.objective))

    def picture(self, task: NetworkTask, theta: Array, row: int) -> Decisions | Fit:
        """Return what the learner takes the examples for training to be, on their two principal axes; or the fit."""
        one = NetworkTask(*(array[row : row + 1] for array in task))
        inputs, targets = self._law.examples_at(one, self._all(1))
        found = self._law.networks.outputs(theta[row : row + 1], inputs, self._shape(one))[0]
        if self.criterion == "squared":
            return Fit(found.ravel(), targets.ravel(), ("the network's answer", "target"))
        flat = inputs.reshape(len(found), -1)
        (points,), names = projected(flat - flat.mean(axis=0))
        return Decisions(points, targets[0].astype(np.int64), found.argmax(axis=1), names)

    def _shape(self, task: NetworkTask) -> tuple[Array, ...]:
        return (task.there, task.units, task.activation, task.missing) if self._law.layers else ()
