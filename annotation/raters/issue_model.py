"""For each issue a Dawid-Skene model with two classes: is it there; its error rates are shrunk to the panel's.

Source: A. P. Dawid and A. M. Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm
(1979).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from annotation.raters.answers import Floats
from annotation.raters.matching import Group
from annotation.raters.score_model import MIN_SHARED, normal
from schemas.score import Issue

#: How many answers of the panel's own kind a rater's error rates on issues begin with.
ISSUE_PRIOR_ANSWERS = 8.0


@dataclass(frozen=True)
class IssueModel:
    """One issue. present: how often it is there; rates: by rater, chance of naming it where it is, and where it is not.

    others: the rates of raters that the model does not know.
    """

    present: float
    rates: Mapping[str, tuple[float, float]]
    others: tuple[float, float]

    def chance(self, named: Mapping[str, bool]) -> float:
        """Chance that the issue is there. named: by rater, whether it named it."""
        logs = np.log([self.present, 1 - self.present])
        for rater in sorted(named):
            rates = np.array(self.rates.get(rater, self.others))
            logs += np.log(rates if named[rater] else 1 - rates)
        return float(normal(logs[None])[0, 0])


def issue_answers(groups: Mapping[str, Sequence[Group]]) -> list[tuple[str, str, frozenset[str]]]:
    """(region of a candidate, rater, issues named) of everybody who scored a region. groups: by candidate."""
    return [
        (f"{candidate}/{group.key}", rater, frozenset(group.scores[rater].issues))
        for candidate in sorted(groups)
        for group in groups[candidate]
        for rater in sorted(group.scores)
    ]


def fit_issues(groups: Mapping[str, Sequence[Group]]) -> dict[Issue, IssueModel]:
    """A model for each issue that was named at all; empty with fewer than `MIN_SHARED` regions of two raters."""
    said = issue_answers(groups)
    shared = sum(len(group.scores) >= 2 for found in groups.values() for group in found)
    if shared < MIN_SHARED:
        return {}
    issues: tuple[Issue, ...] = get_args(Issue)
    return {issue: _fit_issue(said, issue) for issue in issues if any(issue in named for *_, named in said)}


def _fit_issue(said: Sequence[tuple[str, str, frozenset[str]]], issue: str) -> IssueModel:
    """crowd-kit's Dawid-Skene finds where the issue is; the error rates that follow are shrunk to the panel's."""
    named = np.array([issue in issues for *_, issues in said], dtype=np.float64)
    there = _where_present([region for region, *_ in said], [rater for _, rater, _ in said], named)
    names = sorted({rater for _, rater, _ in said})
    places = {name: n for n, name in enumerate(names)}
    place = np.array([places[rater] for _, rater, _ in said], dtype=np.int64)
    rates = []
    for chance in (there, 1 - there):
        asked = np.bincount(place, chance, len(names))
        hits = np.bincount(place, chance * named, len(names))
        panel = (hits.sum() + 0.5) / (asked.sum() + 1)
        rates.append(((hits + ISSUE_PRIOR_ANSWERS * panel) / (asked + ISSUE_PRIOR_ANSWERS), panel))
    present = float(np.clip(there.mean(), 1e-6, 1 - 1e-6))
    by_rater = {name: (float(rates[0][0][n]), float(rates[1][0][n])) for n, name in enumerate(names)}
    return IssueModel(present, by_rater, (float(rates[0][1]), float(rates[1][1])))


def _where_present(regions: Sequence[str], raters: Sequence[str], named: Floats) -> Floats:
    """For each answer, the chance that its region has the issue."""
    import warnings

    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    rows = pd.DataFrame({"task": regions, "worker": raters, "label": named.astype(np.int64)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit calls pandas in ways that it warns of
        found = DawidSkene(n_iter=50).fit_predict_proba(rows)
    present = found[1].reindex(list(regions)) if 1 in found else pd.Series(0.0, index=list(regions))
    return np.asarray(present, dtype=np.float64)
