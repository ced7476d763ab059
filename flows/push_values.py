"""What is known of a run's candidates before annotators see them: a reward's uncertainty, and known scores (gold)."""

import json
from pathlib import Path

from annotation.raters.gold import GOLD_FILE, choose_gold, read_gold
from annotation.raters.routing import Value
from flows.push_settings import ORACLE_GOLD, PushSettings
from flows.run_tasks import oracle_score
from flows.train_reward import outputs
from pipeline.run.folder import read_kept
from runtime.child import child_command
from runtime.files import write_whole
from schemas.errors import BadInput
from schemas.manifest import BuildInfo
from schemas.score import CandidateScore

#: Most candidates with known scores that are mixed in.
GOLD_TASKS = 50
#: What a reward is unsure about, in the run folder (`training.scoring.uncertainty`).
VALUES_FILE = "values.jsonl"


def known_scores(run: Path, info: BuildInfo, settings: PushSettings) -> dict[str, CandidateScore]:
    """Known scores by candidate, kept in the run folder for later; without any, those kept there.

    Of the oracle's only as many as the share of gold needs: what is gold is not asked for its own sake.
    """
    path, gold, most = run / GOLD_FILE, settings.gold, GOLD_TASKS
    if gold is None:
        return read_gold(path) if path.is_file() else {}
    if gold == ORACLE_GOLD:
        samples = [sample for part in range(info.n_parts) for sample in read_kept(run, "gates", part)]
        known = {score.candidate: score for score in map(oracle_score, samples) if score is not None}
        most = min(most, max(1, round(settings.gold_share * len(samples))))
        if not known:
            raise BadInput(str(run), "has no candidate with the oracle's scores", "give a file of known scores")
    else:
        known = read_gold(Path(gold))
    chosen = {candidate: known[candidate] for candidate in choose_gold(known, most)}
    write_whole(path, "".join(score.model_dump_json() + "\n" for score in chosen.values()))
    return chosen


def candidate_values(run: Path, info: BuildInfo, settings: PushSettings) -> list[Value]:
    """Every kept candidate with what is known of it. Raises: BadInput for a bad line of a file; TrainingFailed."""
    values: dict[str, Value] = {}
    path = ask_values(run, settings.reward) if settings.reward is not None else settings.values
    if path is not None:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                values[json.loads(line)["candidate"]] = Value(**json.loads(line))
            except (ValueError, TypeError, KeyError):
                remedy = "write candidate, reward_std and mask_doubt, one object a line"
                raise BadInput(f"{path} line {number}", "is no value of a candidate", remedy) from None
    candidates = (sample.candidate for part in range(info.n_parts) for sample in read_kept(run, "gates", part))
    return [values.get(one.id, Value(one.id)) for one in candidates if one is not None]


def ask_values(run: Path, reward: str) -> Path:
    """The file of what a reward is unsure about, made by a process of its own. Raises: TrainingFailed."""
    path = run / VALUES_FILE
    command = child_command("training.scoring.uncertainty", "--run", str(run.resolve()), "--reward", reward)
    outputs([(path, [*command, "--out", str(path.resolve())])])
    return path
