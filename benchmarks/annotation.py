"""`python -m benchmarks.annotation`: tasks to a real Label Studio and back, beside doing it by hand and by its SDK.

Label Studio runs on this machine with SQLite, so its own work is in every figure. Tasks are made up: 512 px, three
blobs each as a segmenter finds them. Peers: the same tasks ready-made, posted in one-shot batches; one call a task
through the SDK, on a sample; the full export; the SDK's own encoder.
"""

import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from annotation.client import Task, TaskRegion, sent_task
from annotation.exchange import collect, send
from annotation.store import open_store, store_path
from annotation.studio.brush_rle import brush_from_coco, coco_from_brush, decode_brush, encode_brush
from annotation.studio.client import open_studio
from annotation.studio.controls import read_controls
from annotation.studio.http import StudioSettings
from annotation.studio.interface import NEW_REGION, labels_config, region_boxes, region_labels
from annotation.studio.server import Studio, studio
from annotation.studio.tasks import studio_task
from benchmarks.mask_cases import mask_case, region_masks
from benchmarks.result import row, write_result
from runtime.masks import mask_box, mask_to_rle
from schemas.record import short_hash
from schemas.region import ObservedMask
from schemas.sample import ImageRef

SIDE_PX = 512
N_TASKS, N_MASKS = 1_000, 3
BATCH = 250
SDK_SAMPLE = 40
NEW_ANNOTATIONS = 5
SHAPE_MASKS, MASKS_A_TASK, TASKS_A_BATCH = 10_000, 50, 4
SPEED_MASKS = 60
TOKEN_ENV = "LABEL_STUDIO_API_KEY"
IMAGE = ImageRef(tar="images/candidates/part-00000.tar", offset=0, length=1, sha256="0" * 64, format="png")
URL = "/data/local-files/?d=benchmark/none.png"


def make_task(number: int) -> Task:
    """Task `number` of the push."""
    candidate = short_hash("benchmark", number)
    regions = []
    for index, mask in enumerate(region_masks(number, SIDE_PX, N_MASKS)):
        observed = ObservedMask(
            candidate=candidate,
            region=short_hash("benchmark region", number, index),
            origin="segmenter",
            status="changed",
            mask=mask_to_rle(mask),
            box=mask_box(mask),
            area_px=int(mask.sum()),
            confidence=0.9,
        )
        regions.append(TaskRegion(label=f"thing {index}", role="change", mask=observed))
    return Task(
        candidate=candidate,
        index=number,
        instruction="make the things red",
        sources=(IMAGE,),
        edited=IMAGE,
        regions=tuple(regions),
        size_hw=(SIDE_PX, SIDE_PX),
    )


class Server:
    """The server, asked directly."""

    def __init__(self, running: Studio) -> None:
        self.url, self.token = running.url, running.account.token
        self.http = httpx.Client(
            base_url=running.url, headers={"Authorization": f"Token {self.token}"}, timeout=600, trust_env=False
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises: httpx.HTTPStatusError."""
        answer = self.http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def new_project(self) -> int:
        """A project of its own."""
        body = {"title": "a benchmark", "label_config": labels_config()}
        return int(self.ask("POST", "/api/projects/", body)["id"])

    def n_tasks(self, project: int) -> int:
        """How many tasks a project has."""
        return int(self.ask("GET", f"/api/projects/{project}/")["task_number"])


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Seconds of the block, wall time."""
    begin = time.perf_counter()
    yield
    into[name] = time.perf_counter() - begin


def push(url: str, project: int, folder: str, n_tasks: int) -> None:
    """The push as a command does it: store, client, all tasks."""
    with open_store(store_path(Path(folder)), create=True) as store:
        settings = StudioSettings(url=url, project=project, batch_tasks=BATCH)
        client = open_studio(settings, store, labels_config(), lambda image: URL)
        send(client, store, [make_task(number) for number in range(n_tasks)], settle_s=20.0)


def measure_push(server: Server, folder: Path, tasks: list[Task]) -> tuple[dict[str, float], int]:
    """(seconds by name, our project): the tasks sent by us, ready-made in batches, and one by one through the SDK."""
    seconds: dict[str, float] = {}
    controls = read_controls(labels_config(), "labels.xml")
    ready = [studio_task(task, URL, URL, controls) for task in tasks]
    bodies = [json.dumps(ready[begin : begin + BATCH]).encode() for begin in range(0, len(ready), BATCH)]
    by_hand, by_sdk, ours = (server.new_project() for _ in range(3))
    with timed(seconds, "by hand"):
        for body in bodies:
            headers = {"Content-Type": "application/json"}
            server.http.post(f"/api/projects/{by_hand}/import", content=body, headers=headers).raise_for_status()
    from label_studio_sdk import LabelStudio

    sdk = LabelStudio(base_url=server.url, api_key=server.token, timeout=600)
    with timed(seconds, "by the SDK"):
        for task in ready[:SDK_SAMPLE]:
            sdk.projects.import_tasks(id=by_sdk, request=[task])
    with open_store(store_path(folder), create=True) as store:
        settings = StudioSettings(url=server.url, project=ours, batch_tasks=BATCH)
        with timed(seconds, "ours"):
            client = open_studio(settings, store, labels_config(), lambda image: URL)
            send(client, store, tasks)
        with timed(seconds, "again"):
            again = send(open_studio(settings, store, labels_config(), lambda image: URL), store, tasks)
    counts = [server.n_tasks(project) for project in (by_hand, by_sdk, ours)]
    if counts != [len(tasks), SDK_SAMPLE, len(tasks)] or again.new or again.found:
        raise SystemExit(f"tasks on the server: {counts}; sent again: {again}")
    return seconds, ours


def measure_kill(server: Server, folder: Path) -> dict[str, int]:
    """A push killed half way, and repeated: tasks there at the kill and at the end, and different candidates."""
    project = server.new_project()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=push, args=(server.url, project, str(folder), N_TASKS))
    process.start()
    while server.n_tasks(project) < N_TASKS // 2 and process.is_alive():
        time.sleep(0.1)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    killed_at = server.n_tasks(project)
    push(server.url, project, str(folder), N_TASKS)
    there: list[str] = []
    for page in range(1, N_TASKS // 500 + 1):
        listed = server.ask("GET", f"/api/tasks/?project={project}&fields=task_only&page_size=500&page={page}")
        there += [task["data"]["candidate"] for task in listed["tasks"]]
    return {"killed at": killed_at, "tasks": server.n_tasks(project), "candidates": len(set(there))}


def measure_collect(server: Server, folder: Path, project: int, tasks: list[Task]) -> dict[str, float]:
    """Seconds to collect after new annotations, to collect with nothing new, and of the full export; tasks read."""
    found: dict[str, float] = {}
    with open_store(store_path(folder)) as store:
        settings = StudioSettings(url=server.url, project=project)
        client = open_studio(settings, store, labels_config(), lambda image: URL)
        collect(client, store)
        placed = store.tasks(client.project)
        for task in tasks[: NEW_ANNOTATIONS * 100 : 100]:
            body = {"result": _result(task), "lead_time": 10.0}
            server.ask("POST", f"/api/tasks/{placed[task.candidate]}/annotations/", body)
        with timed(found, "collect"):
            got = collect(client, store)
        with timed(found, "nothing new"):
            nothing = collect(client, store)
    with timed(found, "export"):
        whole = server.ask("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    if (got.annotations, nothing.annotations, len(whole)) != (NEW_ANNOTATIONS, 0, len(tasks)):
        raise SystemExit(f"collected {got}, then {nothing}; exported {len(whole)} tasks")
    return found | {"tasks read": float(got.tasks_read)}


def _result(task: Task) -> list[dict[str, Any]]:
    """What an annotator sends who leaves the masks as they are and gives every region and the image a 3."""
    items: list[dict[str, Any]] = []
    for region, sent in zip(task.regions, sent_task(task).regions, strict=True):
        size = {"original_width": SIDE_PX, "original_height": SIDE_PX, "image_rotation": 0}
        base = {"id": sent.region, "to_name": "edited", **size}
        mask = {"format": "rle", "rle": brush_from_coco(region.mask.mask)}
        items.append(base | {"from_name": "mask", "type": "brushlabels", "value": {**mask, "brushlabels": [sent.name]}})
        for name in ("region_success", "region_preserve"):
            items.append(base | {"from_name": name, "type": "choices", "value": {**mask, "choices": ["3"]}})
    for name in ("background", "success", "overedit", "naturalness", "artifacts"):
        items.append(
            {"id": name, "from_name": name, "to_name": "edited", "type": "choices", "value": {"choices": ["3"]}}
        )
    return items


def shapes_that_differ(server: Server) -> int:
    """How many of 10,000 masks of all shapes come back other than they went, as COCO RLE, by brush RLE and server."""
    project, differ = server.new_project(), 0
    for begin in range(0, SHAPE_MASKS, MASKS_A_TASK * TASKS_A_BATCH):
        sent = [mask_to_rle(mask_case(number)) for number in range(begin, begin + MASKS_A_TASK * TASKS_A_BATCH)]
        tasks = []
        for first in range(0, len(sent), MASKS_A_TASK):
            items = [
                {
                    "id": f"m{number}",
                    "from_name": "mask",
                    "to_name": "edited",
                    "type": "brushlabels",
                    "original_width": rle.size[1],
                    "original_height": rle.size[0],
                    "image_rotation": 0,
                    "value": {"format": "rle", "rle": brush_from_coco(rle), "brushlabels": [NEW_REGION]},
                }
                for number, rle in enumerate(sent[first : first + MASKS_A_TASK])
            ]
            data: dict[str, Any] = {"instruction": "", "source_image": URL, "edited_image": URL}
            data |= {"region_labels": region_labels([]), "region_boxes": region_boxes([])}
            tasks.append({"data": data, "predictions": [{"result": items}]})
        numbers = server.ask("POST", f"/api/projects/{project}/import?return_task_ids=true", tasks)["task_ids"]
        back = [
            coco_from_brush(item["value"]["rle"], item["original_height"], item["original_width"])
            for number in numbers
            for item in server.ask("GET", f"/api/predictions/?task={number}")[0]["result"]
        ]
        differ += sum(one != other for one, other in zip(sent, back, strict=True))
    return differ


def codec_seconds() -> dict[str, float]:
    """Seconds a mask of 512 px to encode and decode, ours and the SDK's, the median; their numbers are the same."""
    from label_studio_sdk.converter.brush import decode_rle, mask2rle

    masks = [mask for number in range(SPEED_MASKS // N_MASKS) for mask in region_masks(number, SIDE_PX, N_MASKS)]
    found: dict[str, list[float]] = {"ours": [], "sdk": [], "ours back": [], "sdk back": []}
    for mask in masks:
        ours = _clocked(found["ours"], encode_brush, mask)
        sdk = _clocked(found["sdk"], mask2rle, mask.astype(np.uint8) * 255)
        back = _clocked(found["ours back"], decode_brush, ours, SIDE_PX, SIDE_PX)
        sdk_back = _clocked(found["sdk back"], decode_rle, ours)[3::4].reshape(mask.shape) > 0
        if ours != sdk or not np.array_equal(back, mask) or not np.array_equal(sdk_back, mask):
            raise SystemExit("the codecs differ")
    return {name: float(np.median(times)) for name, times in found.items()}


def _clocked(into: list[float], call: Callable[..., Any], *arguments: Any) -> Any:
    begin = time.perf_counter()
    answer = call(*arguments)
    into.append(time.perf_counter() - begin)
    return answer


def main() -> None:
    """Measures, prints and writes benchmarks/results/annotation.json."""
    codec = codec_seconds()
    tasks = [make_task(number) for number in range(N_TASKS)]
    with tempfile.TemporaryDirectory() as name, studio(Path(name) / "studio") as running:
        server, folder = Server(running), Path(name)
        os.environ[TOKEN_ENV] = server.token
        for part in ("push", "kill"):
            (folder / part).mkdir()
        seconds, project = measure_push(server, folder / "push", tasks)
        collected = measure_collect(server, folder / "push", project, tasks)
        killed = measure_kill(server, folder / "kill")
        differ = shapes_that_differ(server)
        server.http.close()
    rates = {name: N_TASKS / seconds[name] for name in ("ours", "by hand")}
    sdk_rate = SDK_SAMPLE / seconds["by the SDK"]
    what = f"push of {N_TASKS:,} tasks with {N_MASKS} masks of {SIDE_PX} px"
    read = f"tasks read by a collect after {NEW_ANNOTATIONS} new annotations on {N_TASKS:,} tasks"
    mask = f"mask of {SIDE_PX} px"
    rows = [
        row(
            what, "tasks/s", rates["ours"], rates["by hand"], f"ready-made, batches of {BATCH}", limit=rates["by hand"]
        ),
        row(what, "tasks/s", rates["ours"], sdk_rate, f"SDK, one call a task, {SDK_SAMPLE} tasks"),
        row("the same push again", "s", seconds["again"], seconds["ours"], "the first push", higher_is_better=False),
        row("tasks after a push killed half way and repeated", "tasks", killed["tasks"], N_TASKS, "wanted"),
        row(read, "tasks", collected["tasks read"], N_TASKS, "full export", higher_is_better=False),
        row("that collect", "s", collected["collect"], collected["export"], "full export", higher_is_better=False),
        row("a collect with nothing new", "s", collected["nothing new"], None, None, higher_is_better=False),
        row(f"{SHAPE_MASKS:,} masks, COCO to brush to server and back: differ", "masks", float(differ), limit=0.0),
        row(f"encode a {mask}", "ms", codec["ours"] * 1e3, codec["sdk"] * 1e3, "SDK", higher_is_better=False),
        row(f"decode a {mask}", "ms", codec["ours back"] * 1e3, codec["sdk back"] * 1e3, "SDK", higher_is_better=False),
    ]
    write_result("annotation", rows, killed=killed, load=os.getloadavg())


if __name__ == "__main__":
    main()
