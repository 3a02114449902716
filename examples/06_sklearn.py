"""Scikit-learn estimators without a learning rate: a policy chooses every step. Beside them, scikit-learn's own.

python examples/06_sklearn.py                     (the shipped policies)
python examples/06_sklearn.py mine.safetensors    (one of your own for all three)
"""

import sys
import warnings

from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metalearn_env.adapters.sklearn import LearnedClassifier, LearnedKMeans, LearnedRegressor

STEPS = 50  # of all rows for regression and classification: a pass each
own = {"policy": sys.argv[1]} if len(sys.argv) > 1 else {}


def folds(estimator, data):
    """Return the mean score of five folds: R^2, or accuracy."""
    return cross_val_score(make_pipeline(StandardScaler(), estimator), *data, cv=5).mean()


def inertia(estimator, points):
    """Return the mean squared distance to the nearest centre, over five seeds."""
    fits = [estimator.set_params(random_state=seed).fit(points) for seed in range(5)]
    return sum(fit.inertia_ for fit in fits) / len(fits) / len(points)


warnings.simplefilter("ignore", ConvergenceWarning)  # scikit-learn's own are given as many steps, which are few

diabetes = load_diabetes(return_X_y=True)
print(f"diabetes, R^2 after {STEPS} passes over the data")
print(f"  LearnedRegressor    {folds(LearnedRegressor(**own, max_iter=STEPS), diabetes):8.3f}")
print(f"  SGDRegressor        {folds(SGDRegressor(max_iter=STEPS, random_state=0), diabetes):8.3f}")
print(f"  LinearRegression    {folds(LinearRegression(), diabetes):8.3f}   (exact)")

cancer = load_breast_cancer(return_X_y=True)
print(f"breast_cancer, accuracy after {STEPS} passes over the data")
print(f"  LearnedClassifier   {folds(LearnedClassifier(**own, max_iter=STEPS), cancer):8.3f}")
print(f"  SGDClassifier       {folds(SGDClassifier(loss='log_loss', max_iter=STEPS, random_state=0), cancer):8.3f}")
print(f"  LogisticRegression  {folds(LogisticRegression(max_iter=1000), cancer):8.3f}   (second order)")

digits = load_digits().data
learned = LearnedKMeans(10, **own, max_iter=STEPS, batch_size=32)
theirs = MiniBatchKMeans(10, batch_size=32, n_init=1, max_iter=1)  # one pass: 56 batches
print(f"digits, 10 centres, mean squared distance after {STEPS} batches of 32")
print(f"  LearnedKMeans       {inertia(learned, digits):8.1f}")
print(f"  MiniBatchKMeans     {inertia(theirs, digits):8.1f}")
