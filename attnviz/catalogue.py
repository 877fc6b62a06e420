"""Where models come from: the embedded ones, the Hugging Face Hub, a local folder.

Weights are data here and never programs: safetensors only, and no code from a checkpoint, unless the caller says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from attnviz.embedded import EMBEDDED, Stage, embedded_folder, embedded_names
from attnviz.errors import AttnvizError, InputError, ModelError, ModelNotFound, OutOfMemory, UnsafeModel
from attnviz.info import Origin
from attnviz.layout import probe
from attnviz.memory import release_memory
from attnviz.models import Model

DEFAULT = "smollm2"
READING = "reading the weights"  # the stage of loading that takes memory

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# A checkpoint names the class that saved it; a head that transformers would invent anew is left out.
_HEADS = (
    ("ForCausalLM", "AutoModelForCausalLM"),
    ("LMHeadModel", "AutoModelForCausalLM"),
    ("ForMaskedLM", "AutoModelForMaskedLM"),
    ("WithLMHeadModel", "AutoModelForMaskedLM"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification"),
    ("ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    ("MTModel", "AutoModelForSeq2SeqLM"),
)


def load_model(
    name: str | os.PathLike[str] = DEFAULT,
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
    import transformers

    say = progress or (lambda what, share: None)
    say("looking for the model", 0.0)
    target_device = pick_device(device)
    target_dtype = pick_dtype(dtype, target_device)
    origin, source, options = _find(str(name), revision, allow_pickle, say)
    options |= {"trust_remote_code": trust_remote_code}
    with _plain_errors(origin.name, source):
        config = transformers.AutoConfig.from_pretrained(source, **options)
        tokenizer = _tokenizer(source, options)
        say(READING, 0.5)
        hf_model = _read(source, config, target_dtype, options, allow_pickle).to(target_device).eval()
    if not origin.revision and getattr(config, "_commit_hash", None):
        origin = Origin(origin.name, config._commit_hash, origin.note, origin.pooling)
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
    except (RuntimeError, AssertionError, NotImplementedError) as error:
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
    if name in EMBEDDED:
        entry = EMBEDDED[name]
        folder = embedded_folder(entry, say)
        return Origin(entry.title, entry.version, entry.note, _pooling(folder)), str(folder), {}
    path = Path(name).expanduser()
    if path.is_dir():
        _check_folder(path, allow_pickle)
        return Origin(path.resolve().name, "local folder", "", _pooling(path)), str(path), {"local_files_only": True}
    if not name or path.is_absolute() or name.startswith((".", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"There is no model {name!r}. Give {embedded_names()}, a Hugging Face id such as 'gpt2' or 'org/model', "
            "or a folder that save_pretrained made."
        )
    return Origin(name, revision or ""), name, {"revision": revision}


def _check_folder(path: Path, allow_pickle: bool) -> None:
    if not (path / "config.json").is_file():
        raise ModelNotFound(
            f"The folder {path} has no config.json. Expected a checkpoint folder as save_pretrained makes it: "
            "config.json, model.safetensors and the tokenizer's files."
        )
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in path.glob(pattern))
    if not pickles:
        raise ModelNotFound(
            f"The folder {path} has a config.json but no weights; expected model.safetensors beside it."
        )
    if not allow_pickle:
        raise UnsafeModel(_PICKLE.format(name=path, what=", ".join(pickles[:3])))


_PICKLE = (
    "{name} has its weights only as a pickle ({what}), which can run any program when it is opened. Save it as "
    "safetensors (model.save_pretrained(folder)), or, if you trust where it comes from, load it in Python with "
    "allow_pickle=True."
)


def _pooling(folder: Path) -> str:
    """How a sentence encoder pools its states: its own settings say, else the mean over all tokens."""
    try:
        settings = json.loads((folder / "1_Pooling" / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return "mean"
    return "cls" if isinstance(settings, dict) and settings.get("pooling_mode_cls_token") is True else "mean"


def _read(source: str, config: Any, dtype: torch.dtype, options: dict[str, Any], allow_pickle: bool) -> Any:
    import transformers

    architecture = str((getattr(config, "architectures", None) or [""])[0])
    auto = next((auto for ending, auto in _HEADS if architecture.endswith(ending)), "AutoModel")
    use_safetensors = None if allow_pickle else True
    loader = getattr(transformers, auto)
    options = {**options, "dtype": dtype, "use_safetensors": use_safetensors}
    hf_model = loader.from_pretrained(source, **options)
    if hf_model.config._attn_implementation != "eager" and not hf_model._can_set_attn_implementation():
        # Its kernel is chosen for good when it is made, and only the eager one returns attentions.
        hf_model = loader.from_pretrained(source, attn_implementation="eager", **options)
    return hf_model


def _tokenizer(source: str, options: dict[str, Any]) -> Any:
    """The checkpoint's tokenizer, or None where a folder has none: then ids can be traced, texts cannot."""
    import transformers

    path = Path(source)
    if path.is_dir() and not any(path.glob("*token*")) and not any(path.glob("vocab*")):
        return None
    return transformers.AutoTokenizer.from_pretrained(source, **options)


@contextlib.contextmanager
def _plain_errors(name: str, source: str) -> Any:
    """What loading can meet, as an AttnvizError that says what to do."""
    try:
        yield
    except AttnvizError:
        raise
    except (torch.OutOfMemoryError, MemoryError):
        release_memory()
        raise OutOfMemory(
            f'There is not enough memory for {name}. Choose a smaller model, dtype="bfloat16", or device="cpu".'
        ) from None
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, TypeError, AttributeError) as error:
        raise _explained(name, source, error) from error


def _explained(name: str, source: str, error: Exception) -> ModelError:
    said = re.sub(r"\s+", " ", str(error)).strip()
    low = said.lower()
    kind = type(error).__name__
    if "trust_remote_code" in said:
        return UnsafeModel(
            f"{name} wants to run Python code of its own. AttnViz does not run it; if you have read that code, load it "
            "in Python with trust_remote_code=True."
        )
    if "gated" in low or "401" in low or "403" in low:
        return ModelNotFound(f"{name} is gated or private. Ask for access on the Hub and set HF_TOKEN, then try again.")
    if "safetensors" in low and ("does not appear" in low or "no file named" in low):
        return UnsafeModel(_PICKLE.format(name=name, what="no safetensors file"))
    if ("revision" in low and "not a valid" in low) or "RevisionNotFound" in kind:
        return ModelNotFound(f"{name} has no such revision. Give a branch, a tag or a commit that exists on the Hub.")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if offline or any(sign in low for sign in ("couldn't connect", "connection", "offline", "resolve", "timed out")):
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        return ModelNotFound(
            f"{name} is not on this machine, and {why}. Check the name and the network, give a local folder, or use "
            f"{embedded_names()}, which need no network."
        )
    if "not a valid model identifier" in low or "404" in low or "repository not found" in low:
        return ModelNotFound(
            f"The Hub has no model {name!r}. Check its spelling (org/model), set HF_TOKEN if it is private, or use "
            f"{embedded_names()}."
        )
    return ModelError(f"{name} could not be opened: {said[:300]} ({kind}). Expected a transformers text checkpoint.")
