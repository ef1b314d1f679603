"""``python -m jaxinit``: every command run in-process on tiny inputs."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from cases import CASES
from jaxinit.__main__ import main
from jaxinit.cli import demo, recipes
from jaxinit.cli.expected import expected_stddev
from jaxinit.cli.rows import rows, stddev_and_error
from jaxinit.cli.show import PERCENT, summarize

TINY = {
    "gpt2": ["--layers", "2", "--width", "64", "--vocab", "300"],
    "resnet50": ["--model", "resnet50", "--layers", "1", "--width", "8"],
    "mlp": ["--model", "mlp", "--layers", "2", "--width", "32"],
}
MLP = ["demo", *TINY["mlp"]]
PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def run(capsys, *argv, code=0):
    """Lines of stdout of a command that must end with ``code``."""
    assert main([str(a) for a in argv]) == code
    out, err = capsys.readouterr()
    assert err == "" if code < 2 else err.count("\n") == 1
    return out.splitlines()


def refused(capsys, *argv):
    """The one line of stderr of a command that must be refused."""
    assert main([str(a) for a in argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("jaxinit: ")
    assert err.endswith("\n") and err.count("\n") == 1
    return err


def table(lines):
    """The demo's rows by (path, shape): [maker, arrays, expected, measured, ...]."""
    found, maker = {}, ""
    for line in lines:
        if line.endswith((" ok", " WRONG")):
            path, shape, *cells = line.split()
            found[path, shape] = [maker, *cells]
        else:
            maker = line
    return found


@pytest.fixture
def extra_flax():
    pytest.importorskip("flax")


# demo


def test_demo_of_gpt2(capsys, extra_flax, tmp_path):
    path = tmp_path / "config.json"
    out = run(capsys, "demo", *TINY["gpt2"], "--config", path)
    arrays = 2 + 2 * 12 + 2
    assert out[0] == "gpt2: 2 layers, width 64, vocabulary 300, float32"
    equal = f"{arrays} of {arrays} equal, bit for bit"
    assert f"Parameters by that config: {equal}" in out
    assert f"Parameters by jit(init): {equal}" in out
    assert "Config, read again: initializers equal" in out
    residual = "residual: RandomNormal(stddev=0.01)"
    token = "embedding: RandomNormal(stddev=0.02)"
    found = table(out)
    expected = {
        ("token/embedding", "300,64"): [token, "1", "0.02000"],
        ("position/embedding", "1024,64"): [
            "position: RandomNormal(stddev=0.01)",
            "1",
            "0.01000",
        ],
        ("block_*/attn/out/kernel", "64,64"): [residual, "2", "0.01000"],
        ("block_*/down/kernel", "256,64"): [residual, "2", "0.01000"],
        ("**/bias", "various"): ["bias: Zeros()", "13", "0"],
        ("**/scale", "64"): ["scale: Ones()", "5", "0"],
    }
    for place, row in expected.items():
        assert found[place][:3] == row
        measured, wanted = float(found[place][3]), float(row[2])
        assert measured == pytest.approx(wanted, rel=0.1)
        assert found[place][-1] == "ok"
    assert sum(int(row[1]) for row in found.values()) == arrays
    assert max(map(len, out)) <= 100
    for name in ("jaxinit.plan, ", "jit(init)  ", "jit(init), Flax's own"):
        (line,) = (line for line in out if line.startswith(name))
        assert all(float(seconds) >= 0 for seconds in line.split()[-2:])
    assert out[-1].startswith("All checks passed")
    configs = json.loads(path.read_text())
    written = {role: jaxinit.deserialize(c) for role, c in configs.items()}
    assert written == {role: init for _, role, init in recipes.roles("gpt2", 2)}
    assert written["residual"].stddev == 0.02 / math.sqrt(4)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_demo_of_resnet50(capsys, extra_flax):
    out = run(capsys, "demo", *TINY["resnet50"], "--dtype", "bfloat16")
    found = table(out)
    assert out[0].endswith("1 layers, width 8, bfloat16")
    assert found["block_*/conv_2/kernel", "3,3,8,8"][2] == f"{math.sqrt(2 / 72):.4g}"
    assert found["block_*/norm_3/scale", "32"][0] == "residual_scale: Zeros()"
    assert found["**/scale", "various"][:2] == ["scale: Ones()", "4"]


def test_demo_reads_an_existing_config(capsys, extra_flax, tmp_path):
    path = tmp_path / "config.json"
    mine = {role: init for _, role, init in recipes.roles("mlp", 2)}
    mine |= {"kernel": jaxinit.LecunUniform(), "head": jaxinit.Zeros()}
    recipes.write(path, mine)
    before = path.read_bytes()
    out = run(capsys, *MLP, "--config", path, "--dtype", "float64", "--seed", "3")
    assert path.read_bytes() == before
    assert f"Config: read from {path}" in out
    found = table(out)
    kernel = found["dense_*/kernel", "784,32"]
    assert kernel[:3] == ["kernel: LecunUniform()", "1", f"{784**-0.5:.4g}"]
    assert found["head/kernel", "32,10"][0] == "head: Zeros()"


def test_demo_leaves_nothing_behind(capsys, extra_flax, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    run(capsys, *MLP)
    assert list(tmp_path.iterdir()) == []


def test_demo_fails_where_arrays_differ(capsys, extra_flax, monkeypatch):
    made, timed = [], demo.timed

    def disturbed(*args):
        *found, arrays = timed(*args)
        made.append({path: x + (x.ndim > 1) * len(made) for path, x in arrays.items()})
        return *found, made[-1]

    monkeypatch.setattr("jaxinit.cli.demo.timed", disturbed)
    out = run(capsys, *MLP, code=1)
    kernels = "dense_0/kernel, dense_1/kernel, head/kernel"
    line = f"3 of 6 equal, bit for bit; DIFFERENT: {kernels}"
    assert f"Parameters by that config: {line}" in out
    assert f"Parameters by jit(init): {line}" in out
    assert out[-1].startswith("A CHECK FAILED")


def test_demo_fails_where_a_std_is_wrong(capsys, extra_flax, monkeypatch):
    def half(init, shape):
        return (expected_stddev(init, shape) or 0.0) / 2

    monkeypatch.setattr("jaxinit.cli.rows.expected_stddev", half)
    out = run(capsys, *MLP, code=1)
    assert table(out)["head/kernel", "32,10"][-1] == "WRONG"
    assert out[-1].startswith("A CHECK FAILED")


@pytest.mark.parametrize(
    "text, why",
    [
        ("{", "is not JSON"),
        ("\xff", "is no UTF-8"),
        ("[" * 100_000, "levels deep"),
        ('{"a\\ud800": 1}', "half of a surrogate pair"),
        ('{"bias": 1, "bias": 2}', "'bias' is there twice"),
        ("[]", "must hold an object"),
        ('{"kernel": "he_normal"}', "an initializer for each of bias, head, kernel"),
        (
            '{"kernel": "he_norml", "head": "zeros", "bias": "zeros"}',
            "'kernel': 'he_norml' names no registered initializer. Did you mean",
        ),
        (
            '{"kernel": "he_normal", "head": "zeros", "bias": "he_normal"}',
            "'bias': he_normal(shape=...) must be of two or more dimensions",
        ),
    ],
)
def test_demo_refuses_a_bad_config(capsys, extra_flax, tmp_path, text, why):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    assert main([*MLP, "--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(path) in err and why in err
    assert path.read_text(encoding="latin-1") == text


def test_demo_without_its_extra(capsys, extra_flax, monkeypatch):
    monkeypatch.setitem(sys.modules, "flax.linen", None)
    assert "pip install 'jaxinit[flax]'" in refused(capsys, *MLP)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.law or c.values], ids=lambda c: c.id
)
def test_expected_std_is_that_of_the_law(case):
    found = expected_stddev(case.init, case.many if case.law else case.shape)
    if found is None:
        pytest.skip("no formula")
    values = case.law or np.asarray(case.values(case.shape))
    assert found == pytest.approx(values.std(), rel=1e-6, abs=1e-12)


def test_expected_std_of_complex_values():
    init = jaxinit.TruncatedNormal(stddev=1.0, lower=-1.0, upper=1.0)
    w = init(jax.random.key(0), (400, 400), jnp.complex64)
    expected = expected_stddev(init, w.shape, on_complex=True)
    assert expected == pytest.approx(float(np.std(np.asarray(w))), rel=0.01)


def test_measured_std_is_numpys():
    parts = [np.random.default_rng(i).normal(5, 2, (700, 500)) for i in range(2)]
    stddev, error = stddev_and_error([p.astype(np.float32) for p in parts])
    assert stddev == pytest.approx(np.std(parts), rel=1e-6)
    assert error == pytest.approx(2 / math.sqrt(2 * 700_000), rel=0.01)
    assert stddev_and_error([np.full(3, 0.1, np.float32)]) == (0.0, 0.0)


def test_rows_of_unknown_and_custom_initializers():
    @dataclasses.dataclass(frozen=True)
    class Own(jaxinit.Initializer):
        def sample(self, key, shape, dtype):
            return jnp.ones(shape, dtype)

    (row,) = rows({"a_1/b": np.ones(3)}, {"a_1/b": ("role", Own())})
    assert (row.path, row.expected, row.off) == ("a_*/b", None, None)
    assert row.is_right and "unknown" in row.cells()


@pytest.mark.parametrize("value", [0.3, [0.3, -0.3, 0.3]])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float32])
def test_rounding_of_a_constant_is_right(value, dtype):
    init = jaxinit.Constant(value)
    params = {f"a_{i}/b": np.asarray(init(None, (7, 3), dtype)) for i in range(2)}
    (row,) = rows(params, dict.fromkeys(params, ("role", init)))
    assert row.arrays == 2 and row.is_right
    wrong = {path: 1.1 * leaf + leaf[0, 0] for path, leaf in params.items()}
    wrong["a_1/b"][0, 0] *= 1.1
    assert not rows(wrong, dict.fromkeys(wrong, ("role", init)))[0].is_right


# list


def test_list_names_everything(capsys):
    text = "\n".join(run(capsys, "list"))
    listed = {name for line in text.splitlines() for name in line.split(", ")}
    assert set(jaxinit.names()) <= listed
    assert "RandomNormal(mean=0.0, stddev=0.05, seed=None)" in text
    assert "    Truncated normal of variance 2 / fan_in." in text
    assert "FromArray(value)" in text


# show


def test_show_tells_the_truth(capsys):
    argv = ["he_normal", "--shape", "512,256", "--dtype", "bfloat16", "--seed", "7"]
    out = run(capsys, "show", *argv)
    w = jaxinit.HeNormal()(jax.random.key(7), (512, 256), jnp.bfloat16)
    w = np.asarray(w, np.float64)
    by_name = {line.split()[0]: line for line in out if line}
    assert out[0] == "HeNormal(), shape (512, 256), bfloat16"
    assert float(by_name["mean"].split()[1]) == pytest.approx(w.mean(), rel=1e-5)
    assert float(by_name["std"].split()[1]) == pytest.approx(w.std(), rel=1e-5)
    assert by_name["std"].endswith("(expected 0.0625)")
    numbers = [float(x) for x in out[out.index(by_name["quantiles"]) + 1].split()]
    wanted = np.percentile(w, (0, *PERCENT, 100))
    np.testing.assert_allclose(numbers, wanted, rtol=6e-3)
    assert f"{len(np.unique(w)):,} of 131,072 values" in by_name["distinct"]
    largest = np.linalg.norm(w, 2)
    assert f"512 x 256 matrix: largest {largest:.4g}," in by_name["singular"]


def test_show_sets_arguments(capsys):
    own = ["--set", "stddev=0.5", "--set", "seed=3"]
    assert run(capsys, "show", "normal", *own)[0].startswith(
        "RandomNormal(stddev=0.5, seed=3)"
    )
    first = run(capsys, "show", "normal", *own)
    assert first == run(capsys, "show", "normal", *own, "--seed", "3")
    assert first[2:] != run(capsys, "show", "normal", *own, "--seed", "0")[2:]
    word = run(capsys, "show", "variance_scaling", "--set", "mode=fan_out")
    assert word[0].startswith("VarianceScaling(mode='fan_out')")


@pytest.mark.parametrize(
    "argv, line",
    [
        (["zeros", "--shape", "5"], "singular  no values: fewer than two dimensions"),
        (["ones", "--shape", "()"], "distinct  1 of 1 values"),
        (["ones", "--dtype", "int64", "--shape", "2,2"], "mean      1"),
        (["identity", "--shape", "2,2", "--dtype", "bool"], "mean      0.5"),
        (
            ["zeros", "--shape", "2,3"],
            "largest 0, median 0, smallest 0, ratio infinite",
        ),
        (
            ["zeros", "--shape", "2500,2600"],
            "2500 x 2600 matrix not computed: too large",
        ),
        (["normal", "--dtype", "float64"], "131,072 of 131,072 values"),
        (["normal", "--set", "stddev=1e9", "--dtype", "float16"], "are finite"),
        (["normal", "--set", "stddev=1e9", "--dtype", "float16"], "     -inf  "),
        (["he_normal", "--shape", "3,3,4,8"], "36 x 8 matrix"),
        (["normal", "--dtype", "complex64"], "|w| at"),
        (["sparse", "--set", "sparsity=0.5", "--set", "axis=[]"], "(expected 0)"),
    ],
)
def test_show_of_anything(capsys, argv, line):
    assert line in "\n".join(run(capsys, "show", *argv))


def test_summary_of_complex_values():
    w = np.random.default_rng(0).normal(size=(30, 20, 2)) @ np.array([1, 1j])
    s = summarize(w)
    assert s.mean == pytest.approx(w.mean())
    assert s.stddev == pytest.approx(w.std())
    assert s.quantiles[-1] == np.abs(w).max()
    assert s.singular == pytest.approx(np.linalg.svd(w, compute_uv=False))


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", ["40,30", "8"])
def test_show_plots(capsys, tmp_path, shape, dtype):
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"
    path.write_text("old")
    argv = ["normal", "--shape", shape, "--dtype", dtype, "--plot", path]
    run(capsys, "show", *argv)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") == 1200  # the header's width
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_plot_that_cannot_be_written(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    for path in (tmp_path / "none" / "a.png", tmp_path / "folder.png"):
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        assert f"cannot write {path}" in refused(
            capsys, "show", "zeros", "--plot", path
        )


def test_plot_without_its_extra(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "a.png"
    line = refused(capsys, "show", "zeros", "--plot", path)
    assert "pip install 'jaxinit[plots]'" in line
    assert not path.exists()


# bad arguments


@pytest.mark.parametrize(
    "argv, why",
    [
        ([], "required: COMMAND"),
        (["lst"], "invalid choice: 'lst'"),
        (["list", "--all"], "unrecognized arguments: --all"),
        (["demo", "--model", "bert"], "invalid choice: 'bert'"),
        (["demo", "--layers", "0"], "'0' is no whole number above 0"),
        (["demo", "--layers", "many"], "'many' is no whole number above 0"),
        (["demo", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["demo", "--seed", "-1"], "'-1' is no whole number"),
        (["demo", "--model", "resnet50", "--layers", "17"], "resnet50 has 16 blocks"),
        (["demo", "--model", "mlp", "--vocab", "9"], "mlp has no vocabulary"),
        (["show"], "required: name"),
        (["show", "he_norml"], "Did you mean 'he_normal'"),
        (["show", "from_array"], "lacks 'value'"),
        (["show", "he_normal", "--shape", "5,x"], "'5,x' is no shape"),
        (["show", "he_normal", "--shape", ""], "'' is no shape"),
        (["show", "he_normal", "--shape=-1,2"], "'-1,2' is no shape"),
        (["show", "he_normal", "--shape", "5"], "two or more dimensions"),
        (["show", "he_normal", "--shape", "0,3"], "0 elements"),
        (["show", "zeros", "--shape", "100000,100000"], "10000000000 elements"),
        (["show", "normal", "--dtype", "float23"], "did you mean float32"),
        (["show", "normal", "--dtype", "str"], "no dtype of numbers"),
        (["show", "normal", "--dtype", "f4,("], "no dtype of numbers"),
        (["show", "constant", "--set", "value=1" + "0" * 400], "representable"),
        (["show", "normal", "--dtype", "int8"], "dtype of inexact kind"),
        (["show", "normal", "--set", "stddev"], "write stddev=0.02"),
        (["show", "normal", "--set", "stddev=-1"], "must be at least 0"),
        (["show", "normal", "--set", "stddev=wide"], "a finite real number"),
        (["show", "normal", "--set", "scale=1"], "has no field 'scale'"),
        (["show", "normal", "--set", "mean=0", "--set", "mean=1"], "more than once"),
        (["show", "normal", "--seed", "x"], "'x' is no whole number"),
        (["show", "normal", "--plot", "a.pdf"], "no name of a .png file"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_bad_arguments(capsys, argv, why):
    assert why in refused(capsys, *argv)


def test_demo_refuses_what_it_cannot_hold_or_write(capsys, extra_flax, tmp_path):
    assert "parameters; the demo stops" in refused(
        capsys, "demo", "--model", "mlp", "--width", "1000000"
    )
    path = tmp_path / "none" / "config.json"
    assert f"cannot write {path}" in refused(capsys, *MLP, "--config", path)
    assert f"cannot read {tmp_path}" in refused(capsys, *MLP, "--config", tmp_path)


def test_help(capsys):
    for argv in (["--help"], ["demo", "--help"], ["show", "--help"]):
        with pytest.raises(SystemExit, match=r"^0$"):
            main(argv)
        assert "usage: jaxinit" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert capsys.readouterr().out == f"jaxinit {project['version']}\n"


def test_the_installed_command_is_this_one():
    (script,) = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"].items()
    command = EntryPoint(*script, group="console_scripts")
    assert command.name == "jaxinit" and command.load() is main


def test_as_a_process():
    code = (
        "import sys, runpy; sys.argv = ['jaxinit', 'show', 'he_norml']\n"
        "try: runpy.run_module('jaxinit', run_name='__main__')\n"
        "except SystemExit as e: print(e.code)\n"
        "print({'flax', 'rich', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["2", "set()", ""]
    assert done.stderr.count("\n") == 1


def test_integers_of_thousands_of_digits(capsys):
    dims = ",".join(["1" + "0" * 4000] * 2)
    message = refused(capsys, "show", "zeros", "--shape", dims)
    assert "argument --shape" in message and len(message) < 500


@pytest.mark.parametrize("value", [1e300, 1.7e308, 5e-324])
def test_a_plot_of_values_without_floats_between_them(capsys, tmp_path, value):
    path = tmp_path / "a.png"
    init = f"constant(value={value})"
    argv = "--shape", "3,3", "--dtype", "float64", "--plot", str(path)
    run(capsys, "show", init, *argv)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_suggest_names_a_file_that_cannot_be(capsys, tmp_path):
    message = refused(capsys, "suggest", "a:b", "--out", f"{'x' * 300}.json")
    assert "cannot write" in message and "name too long" in message


def deleted():
    x = jnp.ones(3)
    x.delete()
    return {"w": x}


def unsorted():
    return {"w": jnp.ones(3), 1: jnp.ones(3)}


def test_verify_of_a_tree_that_cannot_be_read(capsys, tmp_path):
    path = tmp_path / "m.json"
    jaxinit.manifest({"w": jnp.ones(3)}).save(path)
    argv = "verify", str(path), f"{__name__}:deleted"
    assert "deleted or donated" in refused(capsys, *argv)
    argv = "verify", str(path), f"{__name__}:unsorted"
    assert "keys of each dict in a tree must sort" in refused(capsys, *argv)


def test_an_interrupt_is_one_line(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxinit.__main__.catalogue", interrupt)
    assert main(["list"]) == 130
    assert capsys.readouterr() == ("", "jaxinit: interrupted\n")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_output_may_lack_characters(tmp_path, encoding):
    path = tmp_path / "m.json"
    jaxinit.manifest({"\u00e9": jnp.ones(3)}).save(path)
    (tmp_path / "own.py").write_text(
        "import numpy\ndef make(): return {'a': numpy.ones(3)}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "jaxinit", "verify", path.name, "own:make"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    name = "\u00e9".encode(encoding, "backslashreplace")
    assert done.stdout == name + b": missing\na: extra\n"
