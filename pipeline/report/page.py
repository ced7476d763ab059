"""The report: one self-contained HTML page of a run, made from its files alone.

Nothing on the page is fetched: styles, script and pictures stand in it, and its content policy allows these alone, by
hash. Everything that came from users passes through autoescape. A new section is a function in `SECTIONS`: it takes
what was gathered and returns a `Section` with the name of its template, or None where there is nothing to show.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.build import stage_counts
from pipeline.dataset.shards import read_manifest
from pipeline.report.agreement import agreement_data
from pipeline.report.charts import share_bar
from pipeline.report.entries import DatasetTally, Entry, choose_requests, read_entries
from pipeline.report.figures import charts, key_numbers, summary, synthetic_note
from pipeline.report.images import Pictures
from pipeline.report.policy import policy_data
from pipeline.report.rejects import reason_views
from pipeline.report.reward import reward_data
from pipeline.report.samples import RequestView, request_views
from pipeline.run.folder import read_build_info, without_folders
from runtime.files import write_whole
from schemas.manifest import BuildInfo, Manifest, StageCount

TEMPLATES = Path(__file__).parent
HERO_REWARD = 0.9


@dataclass(frozen=True)
class Gathered:
    """All that the sections draw from. views: the requests to show.

    manifest: None, with entries and views empty, where no dataset was exported yet.
    """

    run: Path
    info: BuildInfo
    manifest: Manifest | None
    stages: tuple[StageCount, ...]
    entries: list[Entry]
    tally: DatasetTally
    views: list[RequestView]
    pictures: Pictures


@dataclass(frozen=True)
class Section:
    """A part of the page. data: what its template sees as `data`."""

    id: str
    title: str
    lead: str
    template: str
    data: dict[str, Any]


def write_report(run: Path, out: Path | None = None, *, max_requests: int = 60) -> Path:
    """Writes the page of a run, by default `report.html` in it, with at most `max_requests` requests shown.

    Returns: where it is. Raises: BadInput where the folder holds no run, DamagedFile for a tar or table that is not
    as it was written.
    """
    path = out or run / "report.html"
    write_whole(path, page(gather(run, max_requests)))
    return path


def gather(run: Path, max_requests: int) -> Gathered:
    """What the page is made of: counts from done-files and manifest, rows from some tars, images of the chosen ones."""
    info = read_build_info(run)
    dataset = run / "dataset"
    manifest = read_manifest(dataset) if (dataset / "manifest.json").is_file() else None
    entries, tally = read_entries(dataset, manifest) if manifest else ([], DatasetTally())
    stages = manifest.stages if manifest else stage_counts(run, info.n_parts)
    pictures = Pictures()
    views = request_views(run, info.n_parts, choose_requests(entries, max_requests), pictures)
    return Gathered(run, info, manifest, stages, entries, tally, views, pictures)


def page(gathered: Gathered) -> str:
    """The HTML text of the page."""
    sections = [section for make in SECTIONS if (section := make(gathered))]
    style, script = _asset("page.css"), _asset("page.js")
    template = _environment().get_template("page.html.jinja")
    return template.render(
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        name=gathered.info.name,
        summary=summary(gathered.manifest, gathered.stages),
        synthetic=synthetic_note(gathered.tally),
        notices=_notices(gathered),
        numbers=key_numbers(gathered.manifest, gathered.stages),
        hero=_hero(gathered.views),
        sections=sections,
        pictures=gathered.pictures.shared.values(),
        lineage=_lineage(gathered),
        settings=json.dumps(without_folders(gathered.info).config, indent=1, sort_keys=True, ensure_ascii=False),
    )


@cache
def _environment() -> Environment:
    """Our templates, each compiled once in a process: that takes longer than to fill them."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.globals["share_bar"] = share_bar
    return environment


def _asset(name: str) -> str:
    """A style sheet or script of ours, as it stands between its tags."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content policy that allows this style sheet, this script and inline pictures, and nothing else."""
    style_hash, script_hash = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hero(views: list[RequestView]) -> RequestView | None:
    """The request in the page's head: the first with several targets and a good candidate, else the first."""
    several = [
        view
        for view in views
        if view.row.kind == "single" and len(view.row.targets) > 1 and (view.best or 0) > HERO_REWARD
    ]
    return next(iter(several or views), None)


def _notices(gathered: Gathered) -> list[str]:
    if gathered.manifest is None:
        return [
            "No dataset has been exported from this run yet, so there are no samples here: run `regionwise export`."
        ]
    if gathered.tally.rows < gathered.manifest.rows:
        return [
            f"Distributions and samples come from {gathered.tally.rows:,} of {gathered.manifest.rows:,} rows, "
            "in shards chosen evenly and so that every split and edit type is among them."
        ]
    return []


def _funnel(gathered: Gathered) -> Section:
    lead = "Every stage keeps a row or drops it with a reason. From the candidates stage on, a row is one edited image."
    return Section("funnel", "From requests to rows", lead, "funnel.html.jinja", {"stages": gathered.stages})


def _distributions(gathered: Gathered) -> Section | None:
    if not gathered.entries:
        return None
    lead = (
        "Scores run from 0 to 25, higher is better. φ of a region is the lower of its success and preserve; its reward "
        "R is √(φ · AES) / 25, where AES is the lower of naturalness and artefacts."
    )
    return Section(
        "distributions",
        "Distributions",
        lead,
        "charts.html.jinja",
        {"charts": charts(gathered.tally, gathered.entries)},
    )


def _samples(gathered: Gathered) -> Section | None:
    if not gathered.views:
        return None
    lead = (
        "A request, its source with the planned boxes, and its candidates, best first. Solid outlines changed as "
        "named, dotted ones were named but did not change, dashed white ones changed though nobody asked for it. "
        "Point at a region's row to single out its mask. Mean R averages the rewards of the named regions and the "
        "background."
    )
    data = {"requests": gathered.views, "total": _total_requests(gathered), **_choices(gathered.views)}
    return Section("samples", "Samples", lead, "samples.html.jinja", data)


def _reward(gathered: Gathered) -> Section | None:
    data = reward_data(gathered.run, gathered.pictures)
    if data is None:
        return None
    made = "A reward was trained on this dataset"
    if data["start"] == "shipped":
        made += ", from weights that come with the product (procedural scenes, synthetic scores)"
    lead = (
        f"{made}; it scores every region of an edit with an uncertainty. Tested on candidates with exactly one flaw "
        "in a known place, on sources and textures that it never saw."
    )
    return Section("reward", "The region reward", lead, "reward.html.jinja", data)


def _policy_section(gathered: Gathered) -> Section | None:
    data = policy_data(gathered.run)
    if data is None:
        return None
    lead = (
        "Policies that edit, trained with rewards of regions, and what became of requests that they were not trained "
        "on. In a sheet every sample stands above its advantages: blue places draw the policy, red ones push it away."
    )
    return Section("policy", "The policies", lead, "policy.html.jinja", data)


def _agreement(gathered: Gathered) -> Section | None:
    data = agreement_data(gathered.run, gathered.manifest.scores if gathered.manifest else "")
    if data is None:
        return None
    lead = (
        "How far raters agree, on the five levels 0 to 4: 1 is perfect agreement, 0 what chance would give. Whiskers "
        "are 95 % intervals."
    )
    return Section("agreement", "The raters", lead, "agreement.html.jinja", data)


def _total_requests(gathered: Gathered) -> int:
    return gathered.manifest.requests if gathered.manifest else 0


def _choices(views: list[RequestView]) -> dict[str, list[str]]:
    """What the filters offer."""
    return {
        "splits": sorted({view.row.split for view in views}, key=["train", "validation", "test"].index),
        "edit_types": sorted({view.row.edit_type for view in views}),
        "defects": sorted({kind for view in views for kind in view.defects}),
    }


def _rejects(gathered: Gathered) -> Section:
    reasons = reason_views(gathered.run, gathered.info.n_parts, gathered.stages, gathered.pictures)
    lead = "What was dropped stays on record with its reason and the measure that decided. A few of each:"
    return Section("rejects", "Rejects", lead, "rejects.html.jinja", {"reasons": reasons})


#: The sections in the order of the page.
SECTIONS: tuple[Callable[[Gathered], Section | None], ...] = (
    _funnel,
    _samples,
    _distributions,
    _agreement,
    _reward,
    _policy_section,
    _rejects,
)


def _lineage(gathered: Gathered) -> list[tuple[str, str]]:
    info = without_folders(gathered.info)

    def pairs(values: dict[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"

    return [
        ("run", info.name),
        ("built", info.created_at),
        ("commit", info.commit or "unknown"),
        ("config sha256", info.config_digest),
        ("seeds", pairs(info.seeds)),
        ("model revisions", pairs(info.model_revisions)),
        ("inputs", pairs(info.inputs)),
        ("parents", ", ".join(info.parents) or "none"),
        ("raters", pairs(gathered.manifest.raters) if gathered.manifest else "none"),
        ("packages", pairs(info.packages)),
    ]
