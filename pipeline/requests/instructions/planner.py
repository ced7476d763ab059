"""Layout planners: a language model that says which things an instruction names, and where they are, in boxes.

`endpoint:URL` is any model behind an OpenAI-compatible chat-completions API, shown the image where there is one;
`transformers:PATH` a causal language model in a local folder, which sees words alone. The prompt and the reading of
answers are in `pipeline.requests.instructions.layout`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx

from pipeline.models.chat_http import FATAL_STATUSES, CallFailure, ChatClient, open_chat, run_async
from pipeline.models.chat_settings import ChatSettings
from pipeline.models.checkpoint import model_files
from pipeline.models.revisions import revision_of
from pipeline.requests.instructions.layout import (
    PROMPT_DIGEST,
    SYSTEM_PROMPT,
    Layout,
    LayoutQuestion,
    Refusal,
    data_block,
    messages,
    read_layout,
    too_long,
)
from runtime.memory import is_out_of_memory
from runtime.specs import parse_spec
from schemas.errors import BadInput, MissingPackage, OutOfMemory, RegionwiseError

NEW_TOKENS = 1024


class LayoutPlanner(Protocol):
    """Plans instructions. name, revision: which model, and which version of it and of the prompt."""

    name: str
    revision: str

    def plan(self, questions: Sequence[LayoutQuestion]) -> list[Layout | Refusal]:
        """One answer per question, in order. Raises: RegionwiseError where the model as a whole cannot be asked."""
        ...


class EndpointPlanner:
    """A `LayoutPlanner` behind a chat-completions server; made by `make_planner`."""

    def __init__(self, client: ChatClient, model: str) -> None:
        self._client, self._model = client, model
        self.name, self.revision = model, PROMPT_DIGEST

    def plan(self, questions: Sequence[LayoutQuestion]) -> list[Layout | Refusal]:
        """As `LayoutPlanner.plan`, at most `settings.concurrency` calls at once.

        Raises: RegionwiseError where the server refuses key, path or model.
        """
        return run_async(lambda: self._plan_all(questions))

    async def _plan_all(self, questions: Sequence[LayoutQuestion]) -> list[Layout | Refusal]:
        bound = asyncio.Semaphore(self._client.settings.concurrency)
        async with self._client.open() as connections:

            async def ask(question: LayoutQuestion) -> Layout | Refusal | RegionwiseError:
                async with bound:
                    return too_long(question) or await self._ask(connections, question)

            answers = await asyncio.gather(*(ask(question) for question in questions))
        found: list[Layout | Refusal] = []
        for answer in answers:
            if isinstance(answer, RegionwiseError):
                raise answer
            found.append(answer)
        return found

    async def _ask(
        self, connections: httpx.AsyncClient, question: LayoutQuestion
    ) -> Layout | Refusal | RegionwiseError:
        result = (await self._client.complete(connections, self._body(question))).result
        if isinstance(result, CallFailure):
            if result.status in FATAL_STATUSES:
                thing = f"planner {self._client.base_url}"
                return RegionwiseError(thing, f"refuses ({result.detail})", "check its URL, model and key")
            return Refusal("no_answer", f"{result.reason}: {result.detail}")
        names = (self._model, *self._client.settings.accept_models)
        if result.model is not None and result.model not in names and not result.model.startswith(f"{self._model}-2"):
            return Refusal("wrong_model", f"answers as model {result.model[:80]!r}, asked for {self._model!r}")
        if result.cut_short:
            return Refusal("cut_short", "the answer hit max_tokens")
        if result.text is None:
            return Refusal("no_answer", "the model wrote nothing or declined")
        return read_layout(result.text, question.size_px)

    def _body(self, question: LayoutQuestion) -> Mapping[str, Any]:
        settings = self._client.settings
        optional = {
            "temperature": settings.temperature,
            "seed": settings.seed,
            settings.max_tokens_field: settings.max_tokens,
        }
        sent = {name: value for name, value in optional.items() if value is not None}
        return {"model": self._model, "messages": messages(question), "stream": False, **sent}


class TransformersPlanner:
    """A `LayoutPlanner` on a causal language model with a chat template in a local folder; greedy, words alone.

    Raises: BadInput where the folder holds no such model; MissingPackage. Nothing is fetched, no code in it runs.
    """

    def __init__(self, folder: Path, device: str = "cpu", new_tokens: int = NEW_TOKENS) -> None:
        thing = f"planner transformers:{folder}"
        if not (folder / "config.json").is_file():
            raise BadInput(thing, "has no config.json", "give the folder of a downloaded model")
        if not list(folder.glob("*.safetensors")):
            raise BadInput(thing, "has no .safetensors", "give the folder of a model saved as safetensors")
        try:
            from safetensors import SafetensorError
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise MissingPackage(thing, "transformers is not installed", "pip install transformers") from None
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **safe)
            model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **safe)
            self._model = model.to(device).eval()
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, MemoryError) as error:
            if is_out_of_memory(error):
                raise OutOfMemory(thing, "does not fit into memory", "free some, or take a smaller model") from error
            raise BadInput(thing, f"cannot be loaded ({error})", "check that the download is whole") from None
        if not self._tokenizer.chat_template:
            raise BadInput(thing, "its tokenizer has no chat template", "give an instruction-tuned model")
        self._device, self._new_tokens = device, new_tokens
        self.name, self.revision = folder.name, f"{revision_of(model_files(folder))}@{PROMPT_DIGEST}"

    def plan(self, questions: Sequence[LayoutQuestion]) -> list[Layout | Refusal]:
        """As `LayoutPlanner.plan`, one question after another."""
        return [too_long(question) or self._plan_one(question) for question in questions]

    def _plan_one(self, question: LayoutQuestion) -> Layout | Refusal:
        chat = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": data_block(question)}]
        tokens = self._tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._device)
        length = tokens["input_ids"].shape[1]
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and length + self._new_tokens > longest:
            return Refusal("too_long", f"prompt of {length} tokens and {self._new_tokens} to write, it takes {longest}")
        written = self._model.generate(**tokens, max_new_tokens=self._new_tokens, do_sample=False)[0, length:]
        text = self._tokenizer.decode(written, skip_special_tokens=True)
        layout = read_layout(text, question.size_px)
        if isinstance(layout, Refusal) and layout.reason == "not_json" and len(written) >= self._new_tokens:
            return Refusal("cut_short", f"the answer hit its limit of {self._new_tokens} tokens")
        return layout


def make_planner(spec: str, settings: ChatSettings | None = None, device: str = "cpu") -> LayoutPlanner:
    """The planner that `spec` names: `endpoint:URL` or `transformers:PATH`. Raises: BadInput, as the planners."""
    name, where = parse_spec(spec, ("endpoint", "transformers"), "planner")
    if where is None:
        raise BadInput(f"planner {spec!r}", "does not say where", "write endpoint:URL or transformers:PATH")
    if name == "endpoint":
        return EndpointPlanner(*open_chat(where, settings or ChatSettings(), "planner"))
    return TransformersPlanner(Path(where), device)
