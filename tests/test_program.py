"""Number of compilations, modules that an import loads, imports between files."""

import ast
import dataclasses
import inspect
import pathlib
import re
import subprocess
import sys

import jax
import pytest

import jaxinit
from jaxinit.initializers import BUILT_IN

PACKAGE = pathlib.Path(jaxinit.__file__).parent
FAN_SCALED = ("lecun", "glorot", "he")


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_fan_scaled_classes_share_one_executable(compilations, distribution):
    key = jax.random.key(0)
    for scheme in FAN_SCALED:
        jaxinit.get(f"{scheme}_{distribution}")(key, (37, 41))
    assert len(compilations) == 1, compilations


def test_arguments_share_one_executable(compilations):
    key = jax.random.key(1)
    jaxinit.HeNormal()(key, (37, 43))
    jaxinit.TruncatedNormal(0.1, 0.3, -1.0, 3.0)(key, (37, 43))
    jaxinit.RandomNormal(0.5)(key, (37, 43))
    assert len(compilations) == 1, compilations
    jaxinit.Constant(0.3)(None, (37, 43))
    jaxinit.Zeros()(None, (37, 43))
    assert len(compilations) == 2, compilations


@pytest.mark.parametrize("init", ["he_normal", "orthogonal", "zeros", "icnr"])
def test_every_program_of_an_initializer_has_the_prefix(init):
    init = jaxinit.ICNR("normal") if init == "icnr" else jaxinit.get(init)
    shape = (3, 4, 4) if isinstance(init, jaxinit.ICNR) else (4, 3)
    jaxpr = jax.make_jaxpr(lambda key: init(key, shape))(jax.random.key(0))
    (call,) = (eqn for eqn in jaxpr.eqns if "jaxpr" in eqn.params)
    assert call.params["name"].startswith("jaxinit_")


def test_one_program_and_one_allocation_per_call():
    """The program has no temporary of the size of the result."""
    draw = jax.jit(lambda key: jaxinit.HeNormal()(key, (512, 512)))
    memory = draw.lower(jax.random.key(0)).compile().memory_analysis()
    assert memory.output_size_in_bytes >= 512 * 512 * 4
    assert memory.temp_size_in_bytes < 512 * 4


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_import_loads_jax_alone():
    heavy = {"flax", "keras", "scipy", "matplotlib", "rich", "torch", "optax"}
    heavy |= {"equinox", "haiku"}
    code = "import jax, sys; before = set(sys.modules); import jaxinit\n"
    code += "print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    assert not heavy & set(run(code).split())


def test_import_computes_nothing():
    """Import starts no backend, so it may come before jax.distributed."""
    code = "import jax, jaxinit\nfrom jax.extend import backend\n"
    code += "jax.config.update('jax_num_cpu_devices', 3)\nprint(jax.device_count())"
    code = "import os; os.environ.pop('XLA_FLAGS', None)\n" + code
    assert run(code).strip() == "3"


# DESIGN.md, Layout: a file imports only from files above it.
ORDER = [
    "_compat",
    "_checks",
    "_processes",
    "_yaml",
    "_files",
    "_plain",
    "_exact",
    "_frozen",
    "_prng",
    "_program",
    "_draws",
    "_fans",
    "_quadrature",
    "_activations",
    "initializers.keras_axes",
    "initializers.keras_configs",
    "initializers.functions",
    "initializers.identifiers",
    "initializers.registry",
    "initializers.namesakes",
    "initializers.base",
    "initializers.nested",
    "initializers.constant",
    "initializers.identity",
    "initializers.zer_o",
    "initializers._householder",
    "initializers.orthogonal",
    "initializers.conv_orthogonal",
    "initializers.random",
    "initializers.sparse",
    "initializers.resampling",
    "initializers.icnr",
    "initializers.scaled",
    "initializers.entrywise",
    "initializers.blocks",
    "initializers.stft",
    "initializers.variance_scaling",
    "initializers.activation_scaled",
    "initializers.presets",
    "initializers.lecun",
    "initializers.glorot",
    "initializers.he",
    "initializers.torch",
    "initializers",
    "functional",
    "_paths",
    "planning.ir",
    "planning.flatten",
    "planning.partition",
    "planning.closure",
    "planning.host_keys",
    "planning.makers.base",
    "planning.makers.constant",
    "planning.makers.cpu_rows.draws",
    "planning.makers.cpu_rows.rows",
    "planning.makers.cpu_rows",
    "planning.makers.per_leaf",
    "planning.makers.whole",
    "planning.makers",
    "planning.analysis",
    "planning.arguments",
    "planning.result",
    "planning.agreement",
    "planning.table",
    "planning.plan",
    "planning",
    "rules.layout",
    "rules.batches",
    "rules.draws",
    "rules.trace",
    "rules.readings",
    "rules.known",
    "rules.globs",
    "rules.patterns",
    "rules.leaf_keys",
    "rules.parameters",
    "rules.assignment",
    "rules.table",
    "rules.rules",
    "rules.models",
    "rules.tree",
    "rules.settings",
    "rules.loaded",
    "rules.held",
    "rules.prefixes",
    "rules.checkpoint",
    "rules.shortest",
    "rules",
    "manifests.digest",
    "manifests.leaves",
    "manifests.manifest",
    "manifests",
    "insight.activation",
    "insight.axes",
    "insight.places",
    "insight.operations",
    "insight.residuals",
    "insight.softmaxes",
    "insight.sites",
    "insight.sources",
    "insight.statistics",
    "insight.measure",
    "insight.trace",
    "insight.recognition",
    "insight.layers",
    "insight.table",
    "insight.charts",
    "insight.svg",
    "insight.page",
    "insight.plots",
    "insight.records",
    "insight.report",
    "insight.rows",
    "insight.verdicts",
    "insight.probe",
    "insight.tasks",
    "insight.scaling",
    "insight.calibrate",
    "insight.recurrence",
    "insight.roles",
    "insight.suggestion",
    "insight.suggest",
    "insight",
    "haiku",
    "keras",
    "linen",
    "nnx",
    "_nnx_layers",
    "equinox",
    "",
]


def module_of(path: pathlib.Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not module_of(path).startswith(("__main__", "cli"))
}


def internal_imports(path: pathlib.Path, module: str) -> set[str]:
    """Returns the modules of the package that a file imports, anywhere in it."""
    package = (
        module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    )
    package = [part for part in package if part]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(a.name.startswith("jaxinit") for a in node.names), path
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += (node.module or "").split(".") if node.module else []
            for alias in node.names:
                name = ".".join([*base, alias.name])
                found.add(name if name in FILES else ".".join(base))
    return found


def test_every_file_has_its_place():
    assert set(FILES) == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_files_import_only_from_above(module):
    above = ORDER[: ORDER.index(module)]
    assert internal_imports(FILES[module], module) <= set(above)


def test_only_its_own_folder_knows_the_cpus_maker():
    """DESIGN.md, The seam in the plan; `cpu_rows.claim` can be taken out of MAKERS."""
    own = re.compile(r"\b(rows?(?!-major)|laws?|blocks?|mmap|cpu_rows)\b", re.I)
    seen = set()
    for module, path in FILES.items():
        general = module.startswith("planning") or module in ("_compat", "_prng", "nnx")
        if general and "cpu_rows" not in module:
            seen |= {(module, word) for word in own.findall(path.read_text())}
    assert seen == {("planning.makers", "cpu_rows")}


def test_no_private_or_misplaced_jax():
    for module, path in FILES.items():
        text = path.read_text()
        assert "jax._src" not in text
        if module != "_compat":
            assert "jax.extend" not in text and "jax.core" not in text, module


def test_files_stay_short():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_help_lists_every_public_name():
    """The docstring of the package lists them by subject; editors show it, too."""
    listed = set(re.findall(r"\w+", jaxinit.__doc__))
    for name, value in vars(jaxinit).items():
        if getattr(value, "__module__", "").startswith("jaxinit"):
            assert name[0] == "_" or {name, value.__name__} & listed, name
    assert listed >= set(jaxinit._EXTRAS) | {"functional"}


CLASSES = sorted({cls.__name__ for cls in BUILT_IN})


@pytest.mark.parametrize("name", CLASSES)
def test_the_docstring_of_a_class_stands_by_itself(name):
    """The order is: line, mathematics, fields, errors, example, references."""
    cls = getattr(jaxinit, name)
    text = inspect.cleandoc(cls.__doc__)  # Python 3.13 does so itself
    sections = re.findall(r"^(\w+):\n", text, re.M)
    order = ["Attributes", "Raises", "Example", "References"]
    assert sections == [s for s in order if s in sections]
    assert "Example" in sections and "jaxinit.functional" not in text
    _, _, fields = text.partition("Attributes:\n")
    documented = re.findall(r"^    (\w+): ", fields.partition("\n\n")[0], re.M)
    assert documented == [f.name for f in dataclasses.fields(cls)]


def test_every_public_name_is_documented():
    names = [n for n in vars(jaxinit) if n[0] != "_"]
    assert len(names) > 40
    for name in names:
        assert getattr(jaxinit, name).__doc__, name
    for name, function in vars(jaxinit.functional).items():
        if name[0] != "_":
            assert "Example" in function.__doc__, name
