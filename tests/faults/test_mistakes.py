"""What a user or a machine gets wrong before and between runs: one line, code 2, and never mixed numbers."""

import os
import resource
import shutil
import subprocess
import sys

import pytest
from tiny import LANES, PATIENCE, ROOT, SPEC, numbers, same_numbers

from jaxrl.results import store

pytestmark = pytest.mark.faults

# Runs a command as if some packages were not installed, and says at the end which slow ones it imported.
WRAPPER = """
import sys
absent, arguments = sys.argv[1], sys.argv[2:]
sys.modules.update(dict.fromkeys(filter(None, absent.split(","))))
from jaxrl.cli import main
try:
    code = main(arguments)
except SystemExit as stop:
    code = stop.code
there = {name for name, module in sys.modules.items() if module}
slow = {"jax", "jaxlib", "ray", "optuna", "wandb", "mlflow", "pandas"} & there
print(sorted(slow), file=sys.stderr)
sys.exit(code)
"""


def shell(tiny, arguments, folder, absent="", path=""):
    """(exit code, what was printed, slow packages, seconds of computing)"""
    environment = {**tiny.environment, "PYTHONPATH": os.pathsep.join(filter(None, (str(path), str(ROOT))))}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", WRAPPER, absent, *arguments], capture_output=True, text=True,
                          env=environment, cwd=folder, timeout=PATIENCE, check=False)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed, _, slow = (done.stdout + done.stderr).strip().rpartition("\n")
    return done.returncode, printed, slow, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"bonus = ": "bonsu = "}, "unknown field 'bonsu': did you mean 'bonus'?"),
        ({'"count"': '"cuont"'}, "unknown bonus 'cuont': did you mean 'count'?"),
        ({"probe/chain": "probe/chian"}, "unknown environment 'probe/chian': did you mean 'probe/chain'?"),
        ({"[grid]": "[gird]"}, "unknown spec.toml entry 'gird': did you mean 'grid'?"),
        ({"coef = [0.1, 1.0]": 'coef = ["abc"]'}, "coef = 'abc'"),
        ({"coef = [0.1, 1.0]": "coef = [nan]"}, "coef = nan"),
        ({f'"0:{LANES // 2}"': '"0-9"'}, "seeds = '0-9'"),
        ({"epochs = 1": "epochs = 1\nepochs = 2"}, "spec.toml"),
    ],
)
def test_a_mistake_in_a_spec_is_told_within_a_second_and_without_jax(tiny, tmp_path, entries, sentence):
    text = SPEC
    for old, new in entries.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "spec.toml").write_text(text)
    code, printed, slow, seconds = shell(tiny, ["sweep", "spec.toml"], tmp_path)
    assert (code, slow) == (2, "[]") and sentence in printed and "Traceback" not in printed
    assert len(printed.splitlines()) == 1
    assert seconds < 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("env", "package", "extra"), [("craftax/Symbolic", "craftax", "craftax"),
                                                       ("navix/Empty-5x5", "navix", "navix")])  # fmt: skip
def test_an_absent_extra_is_one_line_with_its_cure(tiny, tmp_path, env, package, extra):
    (tmp_path / "spec.toml").write_text(SPEC.replace("probe/chain", env))
    code, printed, slow, _ = shell(tiny, ["sweep", "spec.toml"], tmp_path, absent=package)
    line = printed.splitlines()[-1]
    assert code == 2 and "Traceback" not in printed and f"pip install 'jaxrl[{extra}]'" in line
    code, printed, slow, _ = shell(tiny, ["list", "envs", env], tmp_path, absent=package)
    assert (code, slow) == (0, "[]") and f"pip install 'jaxrl[{extra}]'" in printed  # naming it still works


def test_an_absent_tracker_is_one_line_with_its_cure(tiny, tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    code, printed, slow, seconds = shell(tiny, ["sweep", "spec.toml", "--track", "wandb"], tmp_path, absent="wandb")
    assert (code, slow) == (2, "[]") and "pip install 'jaxrl[track]'" in printed and len(printed.splitlines()) == 1
    assert seconds < 1


def test_absent_assets_are_one_line_and_nothing_is_asked(tiny, tmp_path):
    """A package of the name that says that its pictures are not there; its input is closed."""
    (tmp_path / "jaxtari").mkdir()
    (tmp_path / "jaxtari" / "__init__.py").write_text("")
    (tmp_path / "jaxtari" / "paths.py").write_text("def ownership_or_alt_markers_present(): return False\n")
    (tmp_path / "spec.toml").write_text(SPEC.replace("probe/chain", "jaxtari/pong"))
    code, printed, _, _ = shell(tiny, ["sweep", "spec.toml"], tmp_path, path=tmp_path)
    assert code == 2 and "Traceback" not in printed and "python -m jaxtari.install_sprites" in printed.splitlines()[-1]


def test_one_value_more_runs_only_what_is_new(tiny, whole, tmp_path):
    out, more = tmp_path / "out", tmp_path / "more.toml"
    shutil.copytree(whole, out)
    more.write_text(SPEC.replace("coef = [0.1, 1.0]", "coef = [0.5, 1.0, 0.1]"))
    before = numbers(out)
    said = tiny.finish(out, spec=more)
    assert f"{LANES * 3 // 2} lanes, {LANES} committed before" in said
    after = numbers(out)
    assert {name: after[name] for name in before} == before
    new = [manifest for manifest in store.chunks(out) if f"{manifest['chunk']}/config.json" not in before]
    assert sum(len(manifest["lanes"]) for manifest in new) == LANES // 2
    assert {lane["values"]["coef"] for manifest in new
            for lane in store.read_chunk(out / manifest["chunk"]).lanes} == {0.5}  # fmt: skip


def test_other_code_is_told_and_never_mixed(tiny, whole, tmp_path):
    """A copy of the package in which one number of the agent is another."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    shutil.copytree(ROOT / "jaxrl", tmp_path / "code" / "jaxrl", ignore=shutil.ignore_patterns("__pycache__"))
    ppo = tmp_path / "code" / "jaxrl" / "agents" / "ppo.py"
    ppo.write_text(ppo.read_text() + "\nANOTHER_NUMBER = 1\n")
    before = numbers(out)
    process = tiny.start(out, environment={"PYTHONPATH": str(tmp_path / "code")})
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert f"{LANES} lanes in {out} were written by other code" in said and "0 committed before" in said
    after = numbers(out)
    assert {name: after[name] for name in before} == before and len(after) == 2 * len(before)
    assert len({manifest["code"] for manifest in store.chunks(out)}) == 2
    assert f"leaving out {LANES} lanes" in said  # the closing table reads one code only


def test_a_damaged_compilation_cache_is_compiled_anew(tiny, whole, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "xla"
    shutil.copytree(tiny.cache, cache)
    entries = [path for path in cache.iterdir() if path.is_file() and path.stat().st_size > 100]
    assert len(entries) >= 3
    for number, entry in enumerate(entries):
        content = entry.read_bytes()
        entry.write_bytes((content[: len(content) // 2], b"", b"\0" * len(content))[number % 3])
    process = tiny.start(out, environment={"JAX_COMPILATION_CACHE_DIR": str(cache)}, spec=tiny.few)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert same_numbers(out, whole, 2)


def test_no_file_of_the_directory_stands_in_for_an_installed_package(tiny, whole, tmp_path):
    """Results of a stranger's with modules of theirs beside; and a module of the user's own is still found."""
    out, script = tmp_path / "out", tmp_path / "bin" / "jaxrl"
    shutil.copytree(whole, out)
    for module in ("xarray", "pandas", "duckdb", "numpy", "tyro", "matplotlib"):
        (out / f"{module}.py").write_text("open('boom', 'w')\nraise ImportError('hijacked')\n")
    script.parent.mkdir()
    script.write_text("import sys\nfrom jaxrl.cli import main\nsys.exit(main())\n")
    (out / "my_worlds.py").write_text("from jaxrl.envs.probes import Chain as Maze\n")
    small = ["--num-envs=2", "--num-steps=8", "--steps=16", "--minibatches=2", "--evals=0", "--out=more"]
    commands = (["list", "agents"], ["doctor"], ["report", "."], ["evaluate", ".", "--episodes", "2"],
                ["train", "--env", "my_worlds:Maze", *small])  # fmt: skip
    starts = {"script": [str(script)], "-m": ["-m", "jaxrl"]}
    for start, arguments in (*(("-m", each) for each in commands), ("script", commands[0]), ("script", commands[-1])):
        done = subprocess.run([sys.executable, *starts[start], *arguments], cwd=out, env=tiny.environment,
                              capture_output=True, text=True, timeout=PATIENCE, check=False)  # fmt: skip
        assert not (out / "boom").exists(), arguments
        assert done.returncode == 0 or (arguments == ["doctor"] and done.returncode == 1), done.stderr
