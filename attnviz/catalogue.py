"""Where models come from: the embedded ones, the Hugging Face Hub, a local folder.

Weights are data here and never programs: safetensors only, and no code from a checkpoint, unless the caller says so.
"""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers.models.auto import modeling_auto
from transformers.utils import cached_file

from attnviz.admitted import POOLING, check_files, check_folder, files_to_take, folder_of
from attnviz.declared import check_declared, check_settings, is_quantised, of_shapes
from attnviz.embedded import EMBEDDED, Stage, embedded_folder, embedded_names
from attnviz.errors import InputError, ModelError, ModelNotFound
from attnviz.info import Origin
from attnviz.layout import probe
from attnviz.models import Model
from attnviz.opening import hub_reachable, plain_errors
from attnviz.settings import settings

READING = "reading the weights"  # the stage of loading that takes memory

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_HUB_ID_CHARS = 200
_REF = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")  # a branch or tag, as a file's name
_MAY_BE_ABSENT = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# In this order: a Bart stands in the masked mapping too, but it is a sequence-to-sequence model.
_MAPPINGS = (
    ("AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ("AutoModelForSeq2SeqLM", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ("AutoModelForMaskedLM", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ("AutoModelForSequenceClassification", modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    ("AutoModelForImageTextToText", modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
)


def load_model(
    name: str | os.PathLike[str] = "smollm2",
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Stage | None = None,
) -> Model:
    """Load a model by embedded name, Hub id or local folder, check it, and make it traceable.

    name                "smollm2" (default), "minilm", a Hub id such as "gpt2" or "org/model", or a folder made by
                        save_pretrained
    revision            branch, tag or commit on the Hub; HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are honoured
    device              "auto": CUDA, else MPS, else CPU; or a torch device
    dtype               "auto": bfloat16 on a GPU that has it, else float32; or "float32", "float16", "bfloat16"
    trust_remote_code   let the checkpoint run its own Python here; only for code you have read
    allow_pickle        take weights that are a pickle, which can run anything when opened
    raises              ModelNotFound, UnsafeModel, Unsupported, OutOfMemory, InputError; each says what to do
    """
    say = progress or (lambda what, share: None)
    say("looking for the model", 0.0)
    target_device = pick_device(device)
    target_dtype = pick_dtype(dtype, target_device)
    origin, source, options = _find(str(name), revision, allow_pickle, say)
    with plain_errors(origin.name, local=Path(source).is_dir()):
        weights = sorted(Path(source).glob("model*.safetensors" if allow_pickle else "*.safetensors"))
        if not Path(source).is_dir():
            found, weights = _on_this_machine(source, options, allow_pickle, trust_remote_code, say)
            options |= found
            origin = replace(origin, revision=origin.revision or options["revision"] or "")
        options |= {"trust_remote_code": trust_remote_code}
        config = _config(source, options, weights, target_dtype, checked=str(name).strip() not in EMBEDDED)
        tokenizer = _tokenizer(source, options)
        if not Path(source).is_dir():
            pooling = cached_file(source, POOLING, **_MAY_BE_ABSENT, **_hub_options(options))
            origin = replace(origin, pooling=_pooling(pooling))
        say(READING, 0.5)
        hf_model = _read(source, config, target_dtype, options, allow_pickle).to(target_device).eval()
    say("checking its attention", 0.9)
    model = Model(hf_model, tokenizer, probe(hf_model), origin)
    say("ready", 1.0)
    return model


def pick_device(device: str) -> torch.device:
    """The device meant by `device`; "auto" is CUDA, else MPS, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(f'device is "auto" or one that torch has here, such as "cpu"; got {device!r}.') from error
    return found


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype meant by `dtype`; "auto" is bfloat16 where the GPU has it, else float32."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise InputError(f'dtype is "auto" or one of {", ".join(_DTYPES)}; got {dtype!r}.')
    return found


def _find(name: str, revision: str | None, allow_pickle: bool, say: Stage) -> tuple[Origin, str, dict[str, Any]]:
    """Where the model is: its origin, a folder or Hub id, and options for from_pretrained."""
    name = name.strip()
    if revision is not None and (name in EMBEDDED or folder_of(name) is not None):
        raise InputError(f"A revision goes with a model on the Hub; {name} is on this machine.")
    if name in EMBEDDED:
        entry = EMBEDDED[name]
        folder = embedded_folder(entry, say)
        return Origin(entry.title, entry.version, entry.note, _pooling(folder / POOLING)), str(folder), {}
    path = folder_of(name)
    if path is not None:
        check_folder(path, allow_pickle=allow_pickle, most_bytes=settings().model_bytes)
        return (
            Origin(path.resolve().name, "local folder", "", _pooling(path / POOLING)),
            str(path),
            {"local_files_only": True},
        )
    if len(name) > _HUB_ID_CHARS or not _HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"There is no model {name!r}. Give {embedded_names()}, a Hugging Face id such as 'gpt2' or 'org/model', "
            "or a folder that save_pretrained made."
        )
    options = {"revision": revision}
    # A model in the Hub's cache opens without the Hub.
    return Origin(name, revision or ""), name, options if hub_reachable() else options | {"local_files_only": True}


def _on_this_machine(
    name: str, options: dict[str, Any], allow_pickle: bool, remote_code: bool, say: Stage
) -> tuple[dict[str, Any], list[Path]]:
    """Options to open a model of the Hub from its cache, where it is now, and its safetensors: so much, and no more.

    What it weighs is asked first, and what is fetched is the very commit that was weighed.
    """
    limits: dict[str, Any] = {
        "allow_pickle": allow_pickle,
        "remote_code": remote_code,
        "most_bytes": settings().model_bytes,
    }
    revision = options["revision"]
    if options.get("local_files_only"):
        try:
            folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return {}, []  # transformers will say so
        sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*.*")}
        take = files_to_take(name, sizes, **limits)
        check_files(folder, take, allow_pickle=allow_pickle)
        return {"revision": folder.name}, [folder / file for file in take if file.endswith(".safetensors")]
    found = HfApi().model_info(name, revision=revision, files_metadata=True)
    take = files_to_take(name, {file.rfilename: file.size for file in found.siblings or ()}, **limits)
    say("fetching its files", 0.1)
    folder = Path(snapshot_download(name, revision=found.sha, allow_patterns=[glob.escape(file) for file in take]))
    check_files(folder, take, allow_pickle=allow_pickle)
    ref = folder.parents[1] / "refs" / (revision or "main")
    if revision != found.sha and _REF.fullmatch(revision or "main"):  # so that it opens by this name without the Hub
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(str(found.sha), "utf-8")
    weights = [folder / file for file in take if file.endswith(".safetensors")]
    return {"revision": found.sha, "local_files_only": True}, weights


def _hub_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("revision", "local_files_only") if name in options}


def _pooling(file: Path | str | None) -> str:
    """How a sentence encoder pools its states: "cls" or "mean" as its own settings say, by default the mean.

    Another way ("unknown") gives no embedding: a wrong similarity is worse than none.
    """
    try:
        settings = json.loads(Path(file or "").read_text("utf-8"))
    except (OSError, ValueError):
        return "mean"
    modes = [mode for mode, on in settings.items() if on is True] if isinstance(settings, dict) else []
    known = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    modes = [known.get(mode, mode) for mode in modes if mode.startswith("pooling_mode_")]
    return "mean" if not modes else modes[0] if len(modes) == 1 else "unknown"


def _loader(config: Any) -> Any:
    """The auto class of the very architecture that the checkpoint was saved from; without a head if none is known.

    A head that the checkpoint does not have would be random, so a task is never guessed.
    """
    architecture = str((getattr(config, "architectures", None) or [""])[0])
    remote = [name for name in getattr(config, "auto_map", None) or {} if name.startswith("AutoModel")]
    for name, mapping in _MAPPINGS:
        known = mapping.get(config.model_type, ())
        if architecture in ((known,) if isinstance(known, str) else known) or name in remote:
            return getattr(transformers, name)
    if architecture.endswith("ForPreTraining") and config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return transformers.AutoModelForMaskedLM
    return transformers.AutoModel


def _config(source: str, options: dict[str, Any], weights: list[Path], dtype: torch.dtype, *, checked: bool) -> Any:
    """A checkpoint's settings; `checked`: refused where they would take more than may be, or than its weights fill."""
    written, _ = transformers.PreTrainedConfig.get_config_dict(source, **options)
    if checked:
        check_settings(written, source)
    config = transformers.AutoConfig.from_pretrained(source, **options)
    # A program of its own that somebody trusts takes what it likes.
    if checked and not (options["trust_remote_code"] and getattr(config, "auto_map", None)):
        shapes = of_shapes(_loader(config), config, dtype, source)
        most = settings().model_bytes
        check_declared(shapes, weights, source, quantised=is_quantised(written), most_bytes=most)
    return config


def _read(source: str, config: Any, dtype: torch.dtype, options: dict[str, Any], allow_pickle: bool) -> Any:
    loader = _loader(config)
    options = {**options, "dtype": dtype, "use_safetensors": None if allow_pickle else True}
    hf_model, read = loader.from_pretrained(source, output_loading_info=True, **options)
    # A pooler is made anew for checkpoints that never had one; attention does not pass through it.
    missing = sorted(key for key in read["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(
            f"The checkpoint {source} lacks {len(missing)} of its weights ({', '.join(missing[:3])}, ...), which would "
            "be random numbers. Fetch or save it again, whole."
        )
    if hf_model.config._attn_implementation != "eager" and not hf_model._can_set_attn_implementation():
        # Its kernel is chosen for good when it is made, and only the eager one returns attentions.
        del hf_model  # there is room for one
        hf_model = loader.from_pretrained(source, attn_implementation="eager", **options)
    return hf_model


def _tokenizer(source: str, options: dict[str, Any]) -> Any:
    """The checkpoint's tokenizer, or None where a folder has none: then ids can be traced, texts cannot."""
    path = Path(source)
    if path.is_dir() and not any(path.glob("*token*")) and not any(path.glob("vocab*")):
        return None
    return transformers.AutoTokenizer.from_pretrained(source, **options)
