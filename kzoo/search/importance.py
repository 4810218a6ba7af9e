"""Which hyperparameters mattered: a random forest's permutation importance, and rank correlations."""

import math
from typing import Any

from kzoo.search.space import Space, is_ordered, levels

_ENOUGH = 10  # trials before a forest says anything
_INACTIVE = -1.0
EPOCHS = "epochs"  # beside the keys, where trials had different numbers of them


def importance(space: Space, trials: list[dict]) -> tuple[dict[str, float], float] | None:
    """How much of the scores' spread each key accounts for, by what exchanging its values costs a forest.

    Args:
        space: The search space.
        trials: Trials with ``values`` (of the active keys, see `space.active_values`), ``score`` and ``epochs``.

    Returns:
        Shares that sum to 1, with one for the number of epochs where that differs, and the forest's out-of-bag R2,
        which says how far to believe them; None for too few trials or equal scores.
    """
    if len(trials) < _ENOUGH or len({t["score"] for t in trials}) < 2:
        return None
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    keys = [key for key in space if not space[key].is_fixed]
    points = [[position(space, key, t["values"]) for key in keys] for t in trials]
    if len({t["epochs"] for t in trials}) > 1:
        points = [[*point, math.log(max(1, t["epochs"]))] for point, t in zip(points, trials, strict=True)]
        keys = [*keys, EPOCHS]
    x, y = np.array(points, float), np.array([t["score"] for t in trials], float)
    forest = RandomForestRegressor(300, min_samples_leaf=2, oob_score=True, random_state=0).fit(x, y)
    found = permutation_importance(forest, x, y, n_repeats=10, random_state=0).importances_mean.clip(min=0)
    total = float(found.sum())
    if total == 0:
        return None
    return {key: float(v) / total for key, v in zip(keys, found, strict=True)}, float(forest.oob_score_)


def correlation(space: Space, key: str, trials: list[dict]) -> float | None:
    """Spearman's rank correlation of a key's values with the scores; None for values without an order."""
    known = [t for t in trials if key in t["values"]]
    if not is_ordered(space[key]) or len(known) < 5:
        return None
    points = [position(space, key, t["values"]) for t in known]
    scores = [t["score"] for t in known]
    if len(set(points)) < 2 or len(set(scores)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(points, scores).statistic)


def position(space: Space, key: str, values: dict[str, Any]) -> float:
    """Where a value lies on its key's axis: the number, its logarithm, or the index of the choice; -1 if inactive."""
    parameter = space[key]
    if key not in values:
        return _INACTIVE
    value = values[key]
    if parameter.min is not None:
        return math.log10(value) if parameter.log else float(value)
    known = levels(parameter)
    return float(known.index(value)) if value in known else _INACTIVE
