"""Scikit-learn estimators whose step sizes a policy chooses: no learning rate to set.

>>> import numpy as np
>>> from metalearn_env.policy import Policy
>>> X, policy = np.random.default_rng(0).normal(size=(100, 3)), Policy.untrained(history=1, seed=0)
>>> model = LearnedClassifier(policy, max_iter=20).fit(X, X @ [1.0, 2.0, 3.0] > 0.0)
>>> model.coef_.shape, model.n_iter_
((2, 3), 20)
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metalearn_env.datasets import check_sizes
from metalearn_env.family import Array
from metalearn_env.policy import Policy, as_policy
from metalearn_env.ranges import as_integer, is_number
from metalearn_env.whole_data import KMeans, LeastSquares, Problem, Run, SoftmaxRegression, descend, spread_points

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        RegressorMixin,
        TransformerMixin,
    )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError('the adapter needs scikit-learn: pip install "metalearn-env[data]"') from error

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before 1.6 it was a method

    def validate_data(_estimator: Any, *args: Any, **options: Any) -> Any:
        return _estimator._validate_data(*args, **options)


MAX_ITER = 50  # as the shipped policies were trained


class _Learned(BaseEstimator):
    """What the estimators have in common.

    Attributes:
        n_iter_: steps taken.
        step_sizes_: (n_iter_,)
        losses_: (n_iter_,) what the learner saw before each step: of its batch, and of standardised data.
    """

    def _check(self) -> tuple[Policy, np.random.RandomState]:
        """Return the policy and a generator, or raise ``ValueError`` for a parameter that cannot be honoured."""
        as_integer("max_iter", self.max_iter, minimum=1)
        if self.batch_size is not None:
            as_integer("batch_size", self.batch_size, minimum=1)
        return replace(as_policy(self.policy)), check_random_state(self.random_state)  # parameters stay as they are

    def _inputs(self, X: Any, *y: Any, **options: Any) -> Any:
        """Return X, or (X, y), as checked arrays, or raise ``ValueError``; squares of X are numbers."""
        found = validate_data(self, X, *y, dtype=np.float64, **options)
        check_sizes("X", found[0] if y else found)
        return found

    def _batches(self, random: np.random.RandomState, rows: int) -> NDArray[np.int64] | None:
        """Return the rows of each step's minibatch, drawn with replacement."""
        if self.batch_size is None:
            return None
        return random.randint(rows, size=(int(self.max_iter), int(self.batch_size)))

    def _descend(self, policy: Policy, problem: Problem) -> Array:
        """Run the learner and return its parameters."""
        run: Run = descend(policy, problem, int(self.max_iter))
        self.step_sizes_, self.losses_, self.n_iter_ = run.step_sizes, run.signals, len(run.step_sizes)
        if run.diverged:
            warnings.warn(
                f"the run diverged after {self.n_iter_} steps of {self.max_iter}; "
                "the parameters are those of the lowest loss that it saw",
                ConvergenceWarning,
                stacklevel=3,
            )
        return run.theta


class LearnedRegressor(RegressorMixin, _Learned):
    """Least squares by gradient descent, on standardised inputs and targets.

    Args:
        policy: what chooses the step sizes: the name of a shipped policy, the path of one, or a `Policy`.
        max_iter: steps; the policy knows how many are left.
        batch_size: rows that a step sees, drawn with replacement; None: all of them.
        random_state: of the batches.

    Attributes:
        coef_: (features,)
        intercept_: a number.
        n_iter_, step_sizes_, losses_: steps taken, their sizes, and the losses seen before each.
    """

    def __init__(
        self,
        policy: Policy | str | Path = "linear-regression",
        *,
        max_iter: int = MAX_ITER,
        batch_size: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.policy = policy
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LearnedRegressor:
        """Fit to X (m, d) and y (m,)."""
        policy, random = self._check()
        X, y = self._inputs(X, y, y_numeric=True)
        check_sizes("y", y)
        inputs, targets = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
        scaled, wanted = _standardised(inputs, X), _standardised(targets, y[:, None])[:, 0]
        theta = self._descend(policy, LeastSquares(self._batches(random, len(y)), scaled, wanted))
        self.coef_ = theta * targets.scale_[0] / inputs.scale_
        self.intercept_ = float(targets.mean_[0] - inputs.mean_ @ self.coef_)
        return self

    def predict(self, X: Any) -> Array:
        """Return predictions, (m,)."""
        check_is_fitted(self, "coef_")
        X = self._inputs(X, reset=False)
        return np.asarray(X @ self.coef_ + self.intercept_)


class LearnedClassifier(ClassifierMixin, _Learned):
    """Softmax regression by gradient descent, on standardised inputs.

    Args:
        policy, max_iter, batch_size, random_state: see `LearnedRegressor`.
        penalty: of half the squared norm of all parameters; above 0.

    Attributes:
        classes_: (K,)
        coef_: (K, features)
        intercept_: (K,)
        n_iter_, step_sizes_, losses_: steps taken, their sizes, and the losses seen before each.
    """

    def __init__(
        self,
        policy: Policy | str | Path = "mixture",
        *,
        penalty: float = 1e-3,
        max_iter: int = MAX_ITER,
        batch_size: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.policy = policy
        self.penalty = penalty
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LearnedClassifier:
        """Fit to X (m, d) and labels y (m,)."""
        policy, random = self._check()
        if not is_number(self.penalty) or self.penalty <= 0.0:
            raise ValueError(f"penalty is a number above 0, not {self.penalty!r}")
        X, y = self._inputs(X, y)
        check_classification_targets(y)
        known, labels = np.unique(y, return_inverse=True)
        if len(known) < 2:
            raise ValueError(f"y is of at least 2 classes, not of 1 class: {known.tolist()}")
        self.classes_, scaler = known, StandardScaler().fit(X)
        batches, penalty = self._batches(random, len(y)), float(self.penalty)
        theta = self._descend(policy, SoftmaxRegression(batches, _standardised(scaler, X), labels, len(known), penalty))
        vectors = theta.reshape(len(known), -1)
        self.coef_ = vectors[:, :-1] / scaler.scale_
        self.intercept_ = vectors[:, -1] - self.coef_ @ scaler.mean_
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of the classes, (m, K)."""
        scores = self._scores(X)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def decision_function(self, X: Any) -> Array:
        """Return the scores of the classes, (m, K), or of two the second's less the first's, (m,)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most likely classes, (m,)."""
        best = self._scores(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _scores(self, X: Any) -> Array:
        check_is_fitted(self, "coef_")
        X = self._inputs(X, reset=False)
        return np.asarray(X @ self.coef_.T + self.intercept_)


class LearnedKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, _Learned):
    """K-means by minibatches: centres move towards the mean of what they own, by a learned part of the way.

    Args:
        n_clusters: centres.
        policy, max_iter, random_state: see `LearnedRegressor`.
        batch_size: points that a step sees, drawn with replacement; None: all of them.
        init: where centres start: "k-means++", "random" points, or an array (n_clusters, features).

    Attributes:
        cluster_centers_: (n_clusters, features)
        labels_: (m,)
        inertia_: the sum of squared distances to the nearest centres.
        n_iter_, step_sizes_, losses_: steps taken, their sizes, and the losses seen before each.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        policy: Policy | str | Path = "clustering",
        init: str | ArrayLike = "k-means++",
        max_iter: int = MAX_ITER,
        batch_size: int | None = 32,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.policy = policy
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> LearnedKMeans:
        """Fit to X (m, d); y is ignored."""
        policy, random = self._check()
        clusters = as_integer("n_clusters", self.n_clusters, minimum=1)
        if isinstance(self.init, str) and self.init not in ("k-means++", "random"):
            raise ValueError(f"init is one of k-means++, random, or an array, not {self.init!r}")
        X = self._inputs(X)
        if clusters > len(X):
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={clusters}")
        mean = X.mean(axis=0)
        points = X - mean
        if not isinstance(self.init, str):
            given = check_array(self.init, dtype=np.float64, input_name="init")
            check_sizes("init", given)
            first = given - mean
            if first.shape != (clusters, X.shape[1]):
                raise ValueError(f"init is an array of shape {(clusters, X.shape[1])}, not {first.shape}")
        elif self.init == "random":
            first = points[random.permutation(len(X))[:clusters]]
        else:
            first = spread_points(points, clusters, np.random.default_rng(random.randint(2**31 - 1)))
        theta = self._descend(policy, KMeans(self._batches(random, len(X)), points, first))
        self.cluster_centers_ = theta.reshape(first.shape) + mean
        self._n_features_out = clusters
        distance = euclidean_distances(X, self.cluster_centers_, squared=True)
        self.labels_, self.inertia_ = distance.argmin(axis=1), float(distance.min(axis=1).sum())
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the nearest centres, (m,)."""
        return np.asarray(self.transform(X).argmin(axis=1))

    def transform(self, X: Any) -> Array:
        """Return the distances to the centres, (m, n_clusters)."""
        check_is_fitted(self, "cluster_centers_")
        X = self._inputs(X, reset=False)
        return np.asarray(euclidean_distances(X, self.cluster_centers_))

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the sum of squared distances to the nearest centres."""
        return -float((self.transform(X).min(axis=1) ** 2).sum())


def _standardised(scaler: StandardScaler, array: Array) -> Array:
    """Return columns in units of their deviation; zeros, without what is left of rounding, where all are equal."""
    scaled = np.asarray(scaler.transform(array))
    scaled[:, np.ptp(array, axis=0) == 0.0] = 0.0
    return scaled
