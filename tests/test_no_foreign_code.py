"""No file of a checkpoint or an adapter runs, whatever standard input answers; and no library fetches code."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asum_lib.errors import InputError
from asum_lib.models import adapted, loading, pretrained, summarize
from asum_lib.paths import CHECKPOINTS, REPOSITORY

T5 = CHECKPOINTS / "t5-mini"
AUTO_MAP = {
    "AutoConfig": "evil.Evil",
    "AutoModel": "evil.Evil",
    "AutoModelForSeq2SeqLM": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    "AutoProcessor": "evil.Evil",
    "AutoFeatureExtractor": "evil.Evil",
}
JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "preprocessor_config.json")


def change(path: Path, **values) -> None:
    """Add values to a JSON object, or begin one."""
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | values))


@pytest.fixture
def mark(tmp_path) -> Path:
    """A file that the evil code makes."""
    return tmp_path / "ran"


@pytest.fixture
def evil(tmp_path, mark):
    """Makes of a checkpoint a copy with Python files of its own, named in all the ways there are."""

    def make(source: Path) -> Path:
        folder = shutil.copytree(source, tmp_path / "evil")
        code = f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n"
        (folder / "custom_generate").mkdir()
        for name in ("evil.py", "modeling_evil.py", "custom_generate/generate.py", "__init__.py", "setup.py"):
            (folder / name).write_text(code)
        for name in JSON_FILES:
            change(folder / name, auto_map=AUTO_MAP, custom_generate="custom_generate", trust_remote_code=True)
        (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.system('touch " + str(mark) + "') }}")
        return folder

    return make


def answer_yes(code: str, **environment) -> subprocess.CompletedProcess:
    """Run Python with `y` on standard input, as many times as it is asked."""
    given = os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment
    return subprocess.run([sys.executable, "-c", code], input="y\n" * 20, env=given, capture_output=True, text=True, timeout=120)


def command(*arguments: str) -> str:
    return f"import sys; from asum_lib import cli; sys.exit(cli.main({list(arguments)!r}))"


def test_a_summarizer_of_known_type_runs_none_of_its_code(evil, mark):
    folder = evil(T5)
    code = f"from asum_lib.models import adapted; print(adapted.summarizer({str(folder)!r}, 'fp32', 'en', 'mini').family)"
    done = answer_yes(code)
    assert (done.stdout, done.returncode) == ("t5\n", 0), done.stderr
    assert not mark.exists()


def test_a_summarizer_of_unknown_type_is_refused_in_one_line(evil, mark, tmp_path):
    folder = evil(T5)
    change(folder / "config.json", model_type="evil")
    recording = tmp_path / "a.wav"
    assert answer_yes(command("say", "this talk explains how to make soap", str(recording))).returncode == 0
    done = answer_yes(command("summarize", str(recording), "--summarizer", str(folder)))
    assert done.returncode in (1, 2) and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "[y/N]" not in done.stderr, done.stderr
    assert not mark.exists()


def test_a_notebook_parameter_runs_no_checkpoint_code(evil, mark, tmp_path):
    folder = evil(T5)
    change(folder / "config.json", model_type="evil")
    given = [f"checkpoint={folder}", "scale=paper", f"results_dir={tmp_path / 'results'}"]
    done = answer_yes(command("measure", "peft_rouge", *(part for value in given for part in ("-p", value))))
    assert done.returncode != 0 and "[y/N]" not in done.stderr + done.stdout
    assert not mark.exists()


def test_a_whisper_runs_none_of_its_code(evil, mark):
    folder = evil(CHECKPOINTS / "whisper-tiny")
    done = answer_yes(f"from asum_lib.models import loading; loading.load({str(folder)!r}, 'int8', 'mini'); print('loaded')")
    assert (done.stdout, done.returncode) == ("loaded\n", 0), done.stderr
    assert not mark.exists()


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_a_checkpoint_names_no_kernel_to_fetch(evil, name):
    folder = evil(T5)
    change(folder / "config.json", **{name: "kernels-community/flash-attn2"})
    with pytest.raises(InputError, match="asks for the attention 'kernels-community/flash-attn2', which is code to fetch"):
        loading.load_model(folder, "fp32")


@pytest.mark.parametrize("said", [{"quant_method": "gptq", "bits": 4}, {"quant_method": "torchao"}, 3])
def test_a_checkpoint_of_another_quantiser_is_refused(evil, said):
    folder = evil(T5)
    change(folder / "config.json", quantization_config=said)
    with pytest.raises(InputError, match=r"checkpoint .*(not by bitsandbytes|config.json cannot be read)"):
        loading.load_model(folder, "fp32")


@pytest.mark.parametrize(("name", "value"), [("penalty_alpha", 0.6), ("dola_layers", "low"), ("num_beam_groups", 2)])
def test_a_decoding_that_is_code_to_fetch_is_refused(evil, name, value):
    folder = evil(T5)
    change(folder / "generation_config.json", **{name: value})
    with pytest.raises(InputError, match=f"generation_config.json asks for {name} .*, whose decoding is code to fetch"):
        summarize.load(str(folder), "fp32", "en", "mini")


def test_a_summary_is_written_without_a_checkpoints_code(evil, mark):
    loaded = summarize.load(str(evil(T5)), "fp32", "en", "mini")
    sources = summarize.encode(loaded.tokenizer, loaded.family, ["this talk explains how to make soap."], 32)
    assert len(summarize.summarize(loaded.model, loaded.tokenizer, sources, "en")) == 1
    assert not mark.exists()


@pytest.fixture
def adapter(tmp_path, mark, monkeypatch) -> Path:
    """A shipped adapter, with a module beside it that could be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_module.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    source = next(path.parent for path in sorted((CHECKPOINTS / "adapters").rglob(adapted.NOTE)) if "t5" in adapted.read(path.parent).base)
    return shutil.copytree(source, tmp_path / "adapter")


def test_an_adapter_imports_no_module_by_its_mapping(adapter, mark):
    change(adapter / adapted.CONFIG, auto_mapping={"base_model_class": "Evil", "parent_library": "evil_module"})
    adapted.summarizer(str(adapter), "fp32", "en", "mini")
    assert not mark.exists()


def test_an_adapter_that_names_a_core_to_import_is_refused(adapter, mark):
    change(adapter / adapted.CONFIG, megatron_config={"a": 1}, megatron_core="evil_module")
    with pytest.raises(InputError, match="has a megatron_config, whose code would be run"):
        adapted.summarizer(str(adapter), "fp32", "en", "mini")
    assert not mark.exists()


def test_an_installed_package_kernels_is_not_asked_for_code(tmp_path, mark):
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(mark)!r}, 'w').close()\ndef get_kernel(*given, **named): raise RuntimeError\n")
    code = f"from asum_lib.models import loading; loading.load({str(CHECKPOINTS / 'whisper-tiny')!r}, 'int4', 'mini')"
    done = answer_yes(code, PYTHONPATH=os.pathsep.join([str(REPOSITORY), str(tmp_path)]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not mark.exists()


def calls(path: Path, name: str) -> list[int]:
    """Lines of a file that call a method `name`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [node.lineno for node in found if node.func.attr == name]


def test_one_module_alone_calls_from_pretrained():
    found = {path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("asum_lib/**/*.py") if calls(path, "from_pretrained")}
    assert found == {"asum_lib/models/pretrained.py"}


def test_the_one_module_trusts_no_remote_code():
    source = Path(pretrained.__file__).read_text(encoding="utf-8").replace(" ", "")
    assert "trust_remote_code=True" not in source and '"trust_remote_code":True' not in source
