"""The rankings of a request's candidates by several raters as one: mean ranks, and who won each pair."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from schemas.ranking import PairWins, RankedCandidate, Ranking, RankingConsensus

#: Mean ranks are rounded to this many decimals.
DECIMALS = 4


def rank_consensus(rankings: Sequence[Ranking], snapshot: str) -> RankingConsensus:
    """All rankings of one request together. rankings: what stands (`annotation.raters.consensus.current`).

    A candidate's mean rank is the plain mean of its ranks, 1 for the best; a pair is won by whom a rater put first.
    Raises: ValueError without a ranking, or with rankings of several requests.
    """
    (request,) = {ranking.request for ranking in rankings}
    orders = [ranking.candidates for ranking in rankings if ranking.state == "submitted"]
    ranks: dict[str, list[int]] = {}
    for order in orders:
        for rank, candidate in enumerate(order, 1):
            ranks.setdefault(candidate, []).append(rank)
    wins = Counter(pair for order in orders for pair in combinations(order, 2))
    ranked = [
        RankedCandidate(
            candidate=candidate,
            mean_rank=round(fmean(found), DECIMALS),
            wins=sum(count for (first, _), count in wins.items() if first == candidate),
        )
        for candidate, found in ranks.items()
    ]
    return RankingConsensus(
        request=request,
        snapshot=snapshot,
        synthetic=any(ranking.synthetic for ranking in rankings),
        n_raters=len(orders),
        n_not_judged=len(rankings) - len(orders),
        candidates=tuple(sorted(ranked, key=lambda one: (one.mean_rank, one.candidate))),
        pairs=tuple(
            PairWins(first=first, second=second, first_wins=wins[first, second], second_wins=wins[second, first])
            for first, second in combinations(sorted(ranks), 2)
        ),
    )
