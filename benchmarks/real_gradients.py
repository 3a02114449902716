"""The problems of `benchmarks.real_training` where gradients are taken: networks and linear models, on real data.

Every seed has its own fifth of the rows held out, first parameters and minibatches, the same for all contenders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier, SGDRegressor
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.real_examples import REGRESSION, Instance, convolutions, drawn, least_squares, perceptron, softmax
from benchmarks.real_optimisers import OPTIMISERS, Training, learned, missing, replayed
from benchmarks.real_runs import Contender, Measure, Problem, Record, Recorder, interventions
from metalearn_env.adapters.sklearn import LearnedRegressor
from metalearn_env.policy import Policy

TORCH, SCIKIT_LEARN = "SGD 1e-3 (torch)", "scikit-learn's SGD"
SGD, ADAM = "learned", "learned, on Adam"

Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Gradients(Problem):
    """A model, of which a step sees a minibatch or, without a batch size, all examples."""

    name: str
    told: str
    data: str
    model: Callable[[], nn.Module]
    horizon: int
    batch_size: int | None
    policy: str
    default: str
    learners: tuple[str, ...] = (SGD, ADAM)
    dtype: torch.dtype = torch.float32

    measures: ClassVar[tuple[Measure, ...]] = (Measure("held-out loss"), Measure("training loss"))

    @property
    def counted(self) -> str:
        return "gradients of all examples" if self.batch_size is None else f"gradients of {self.batch_size} examples"

    @property
    def also(self) -> str:
        return "R2" if self.regression else "accuracy"

    @property
    def regression(self) -> bool:
        return self.data == REGRESSION

    @property
    def contenders(self) -> tuple[Contender, ...]:
        absent = missing()
        of_torch = [one.contender(name) for name, one in OPTIMISERS.items() if one.package not in absent]
        return (*of_torch, Contender(self.default))

    def run(self, contender: str, knob: float | None, seed: int) -> Record:
        if contender == SCIKIT_LEARN:
            return self._by_scikit_learn(seed)
        name, value = ("constant", 1e-3) if contender == TORCH else (contender, knob)
        return self._trained(self.horizon, seed, lambda p: OPTIMISERS[name].start(p, value, self.horizon))

    def learned(self, learner: str, policy: Policy, horizon: int, seed: int) -> Record:
        with interventions() as said:
            of_torch = torch.optim.Adam if learner == ADAM else torch.optim.SGD

            def start(parameters: Any) -> Training:
                return learned(of_torch(parameters, lr=1e-3), policy, horizon, self.batch_size)

            if self.regression:
                record = self._by_estimator(policy, horizon, seed)
            else:
                record = self._trained(horizon, seed, start)
        return {**record, "interventions": len(said)}

    def instance(self, seed: int, horizon: int) -> Instance:
        """Return what a seed makes of the problem, for so many steps."""
        return drawn(self.data, seed, None if self.batch_size is None else (horizon, self.batch_size), self.dtype)

    def _trained(self, horizon: int, seed: int, start: Callable[[Any], Training], final: Model | None = None) -> Record:
        """Run a training; what is measured at the end is the model, or ``final``."""
        torch.manual_seed(seed)
        of, model, recorder = self.instance(seed, horizon), self.model().to(self.dtype), Recorder(horizon)
        training = start(list(model.parameters()))

        def loss_of_all() -> float:
            return _averaged(training, lambda: self._loss(model, of.x, of.y))

        if training.averages:
            training.optimizer.train()
        for t in range(horizon):
            recorder.see(t, loss_of_all)
            seen = slice(None) if of.batches is None else of.batches[t]
            loss = self._criterion(model(of.x[seen]), of.y[seen])
            training.optimizer.zero_grad()
            loss.backward()
            training.before(loss)
            training.optimizer.step()
            recorder.step(training.rate)
            training.after(float(loss.detach()))
        recorder.see(horizon, loss_of_all)
        return _averaged(training, lambda: recorder.record(*self._measured(final or model, of)))

    def _by_scikit_learn(self, seed: int) -> Record:
        """Run scikit-learn's own estimator on the same minibatches, whose examples it takes one by one."""
        of, recorder = self.instance(seed, self.horizon), Recorder(self.horizon)
        estimator = SGDRegressor(random_state=seed) if self.regression else SGDClassifier("log_loss", random_state=seed)
        x, y = of.x.numpy(), of.y.numpy().ravel()
        known = {} if self.regression else {"classes": np.unique(y)}

        def model(inputs: torch.Tensor) -> torch.Tensor:
            if not hasattr(estimator, "coef_"):
                return torch.zeros(len(inputs), 1 if self.regression else 2, dtype=self.dtype)
            score = torch.tensor(inputs.numpy() @ estimator.coef_.T + estimator.intercept_).reshape(-1, 1)
            return score if self.regression else torch.cat([torch.zeros_like(score), score], 1)

        for t in range(self.horizon):
            recorder.see(t, lambda: self._loss(model, of.x, of.y))
            seen = slice(None) if of.batches is None else of.batches[t]
            estimator.partial_fit(x[seen], y[seen], **known)
        recorder.see(self.horizon, lambda: self._loss(model, of.x, of.y))
        return recorder.record(*self._measured(model, of))

    def _by_estimator(self, policy: Policy, horizon: int, seed: int) -> Record:
        """Fit the adapter's regressor; the curve is that of its step sizes, taken once more."""
        of = self.instance(seed, horizon)
        estimator = LearnedRegressor(policy, max_iter=horizon).fit(of.x.numpy(), of.y.numpy().ravel())

        def fitted(inputs: torch.Tensor) -> torch.Tensor:
            return torch.tensor(estimator.predict(inputs.numpy()))[:, None]

        return self._trained(horizon, seed, lambda p: replayed(p, estimator.step_sizes_), fitted)

    def _measured(self, model: Model, of: Instance) -> tuple[dict[str, float], float]:
        with torch.no_grad():
            scores = model(of.held_x)
            losses = {"held-out loss": self._loss(model, of.held_x, of.held_y)}
            losses["training loss"] = self._loss(model, of.x, of.y)
            if self.regression:
                return losses, 1.0 - 2.0 * losses["held-out loss"] / float(of.held_y.var(correction=0))
            return losses, float((scores.argmax(1) == of.held_y).double().mean())

    def _loss(self, model: Model, x: torch.Tensor, y: torch.Tensor) -> float:
        with torch.no_grad():
            return float(self._criterion(model(x), y))

    def _criterion(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * ((scores - y) ** 2).mean() if self.regression else cross_entropy(scores, y)


def _averaged(training: Training, look: Callable[[], Any]) -> Any:
    """Look at a model where its optimiser says that it is to be evaluated."""
    if not training.averages:
        return look()
    training.optimizer.eval()
    seen = look()
    training.optimizer.train()
    return seen


OF_NETWORKS: dict[str, Any] = {"policy": "neural-network", "default": TORCH, "batch_size": 32}

GRADIENTS = (
    Gradients("digits-mlp", "digits, a perceptron 64-32-10 of tanh units", "digits", perceptron, 400, **OF_NETWORKS),
    Gradients(
        "digits-cnn", "digits, two convolutions of 8 and 16 channels", "digits", convolutions, 300, **OF_NETWORKS
    ),
    Gradients(
        "breast-cancer",
        "breast_cancer, logistic regression",
        "breast_cancer",
        softmax,
        300,
        **{**OF_NETWORKS, "default": SCIKIT_LEARN},
    ),
    Gradients(
        "diabetes",
        "diabetes, linear regression, all examples at each step",
        "diabetes",
        least_squares,
        50,
        None,
        "linear-regression",
        SCIKIT_LEARN,
        (SGD,),
        torch.float64,
    ),
)
