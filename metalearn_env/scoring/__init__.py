"""What makes scores: whatever chooses step sizes, on the same tasks, on a scale from the best constant to the limit.

===============  ======================================================================================================
`runs`           controllers at work on tasks: what they did over time, and the best constant step in hindsight
`tasks`          the tasks of one family to score on, `TaskSet`: the scale S, and results kept by what they depend on
`sets`           the tasks of several families or axes, `task_sets`
`rows`           who is scored, `Contender`, and the line of a table, `score_row`
`controls`       what every controller is compared with
`ablations`      a trained policy with something taken from it
`contenders`     whatever can be scored, by name: controls, rules, bounds, policy files, and what is left of these
`profiles`       curves over a threshold, over evaluations, and over time
`statistics`     interquartile means and their bootstrap intervals
`measures`       what a contender's runs come to: the numbers of its row and its profiles
`table`          results tables of any contenders, `metalearn_env.scoring.table.score`
`formatting`     the same as text
`cache`          results kept between calls
===============  ======================================================================================================

Modules in here import one another by their full path, and nothing below this folder imports from it.
"""

from metalearn_env.scoring.rows import Contender, Row, score_row
from metalearn_env.scoring.runs import GRID, Run, best_constant, charged_rollout, final_log_gap, recorded, rollout
from metalearn_env.scoring.sets import task_sets
from metalearn_env.scoring.tasks import LEAST_SPAN, LEAST_TASKS, TaskSet

__all__ = [
    "GRID",
    "LEAST_SPAN",
    "LEAST_TASKS",
    "Contender",
    "Row",
    "Run",
    "TaskSet",
    "best_constant",
    "charged_rollout",
    "final_log_gap",
    "recorded",
    "rollout",
    "score_row",
    "task_sets",
]
