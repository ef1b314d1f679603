"""Checks a release: builds the wheel, and installs it into empty environments.

Run `make release-check`. It builds the package as the release workflow does, and makes
an empty environment for each of Python 3.11 and 3.13. A missing interpreter fails the
check, unless ALLOW_MISSING_PYTHON=1 is set: then the run is no check of a release.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.13")
MOST_BYTES = 500_000  # largest wheel
MOST_SECONDS = 0.5  # longest `import jaxinit` after `import jax`
TRY = """
import jax, time
import sys
before = {m.partition(".")[0] for m in sys.modules}
start = time.perf_counter()
import jaxinit
seconds = time.perf_counter() - start
loaded = {m.partition(".")[0] for m in sys.modules} - before - {"jaxinit"}
print(f"{seconds:.3f}", *sorted(loaded))
"""
DRAW = """
import importlib.resources, jax, jaxinit
assert jaxinit.__version__ == {version!r}, jaxinit.__version__
assert "site-packages" in jaxinit.__file__, jaxinit.__file__
assert (importlib.resources.files(jaxinit) / "py.typed").is_file()
params = jaxinit.init(lambda key: jaxinit.HeNormal()(key, (8, 4)), jax.random.key(0))
assert params.shape == (8, 4)
assert jaxinit.deserialize(jaxinit.serialize(jaxinit.HeNormal())) == jaxinit.HeNormal()
"""


def run(*command: object, cwd: Path = ROOT) -> str:
    """Runs a command without variables PYTHON*, and returns its output."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nfailed: {' '.join(map(str, command))}")
    return done.stdout


def check(is_right: bool, text: str) -> None:
    """Prints a line if a check passes; otherwise stops the run."""
    if not is_right:
        raise SystemExit(f"release-check: {text}")
    print(f"  {text}", flush=True)


def find_python(version: str) -> str | None:
    """Returns the path of an interpreter on PATH or of pyenv, or None."""
    roots = [os.environ.get("PYENV_ROOT", "~/.pyenv")]
    if shutil.which("pyenv"):
        roots.append(run("pyenv", "root").strip())
    found = [shutil.which(f"python{version}")]
    for root in roots:
        found += glob.glob(f"{Path(root).expanduser()}/versions/{version}.*/bin/python")
    return next(filter(works, found), None)


def works(path: str | None) -> bool:
    """True if an interpreter runs; a shim of pyenv may have none behind it."""
    if not path:
        return False
    return not subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL).returncode


def check_texts(version: str) -> None:
    """Checks that CHANGELOG.md and CITATION.cff name the version and its date."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.+)$", changelog, re.M)
    check(heads[0] == "Unreleased", "CHANGELOG.md opens with Unreleased")
    dated = re.fullmatch(rf"{re.escape(version)} \((\d{{4}}-\d\d-\d\d)\)", heads[1])
    text = f"the newest release in CHANGELOG.md is {version}, with a date"
    check(dated is not None, text)
    assert dated is not None
    citation = (ROOT / "CITATION.cff").read_text().splitlines()
    check(f"version: {version}" in citation, f"CITATION.cff cites {version}")
    date = f'date-released: "{dated[1]}"'
    check(date in citation, f"CITATION.cff has the date of the changelog: {date}")


def note_links(project: dict[str, Any]) -> None:
    """Prints the number of links in README.md that PyPI cannot resolve."""
    readme = (ROOT / "README.md").read_text()
    relative = re.findall(r"\]\((?!https?:|#)[^)]+\)", readme)
    if relative:
        print(
            f"  NOTE: PyPI cannot resolve {len(relative)} relative links of README.md"
        )
    if "urls" not in project:
        print("  NOTE: pyproject.toml has no [project.urls]; see CONTRIBUTING.md")


def check_archives(folder: Path, version: str) -> Path:
    """Builds the sdist and, from it, the wheel; checks metadata and contents."""
    run(sys.executable, "-m", "build", "--outdir", folder)
    wheel = folder / f"jaxinit-{version}-py3-none-any.whl"
    sdist = folder / f"jaxinit-{version}.tar.gz"
    check(wheel.exists() and sdist.exists(), f"built {wheel.name} and {sdist.name}")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    check(True, "README.md renders and the metadata is valid (twine check --strict)")
    size = wheel.stat().st_size
    check(size <= MOST_BYTES, f"the wheel has {size:,} bytes (at most {MOST_BYTES:,})")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"jaxinit-{version}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
    tops = {name.partition("/")[0] for name in names}
    check(tops == {"jaxinit", info}, "the wheel contains only the package")
    needed = re.findall(r"^Requires-Dist: (?!.*extra ==)(.+)$", metadata, re.M)
    check(len(needed) == 1 and needed[0].startswith("jax>="), f"it needs {needed[0]}")
    return wheel


def check_installed(python: str, wheel: Path, version: str, home: Path) -> None:
    """Installs the wheel into an empty environment, and runs it outside the sources."""
    folder = home.parent
    run(python, "-m", "venv", home)
    inside = home / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check")
    run(inside, "-m", "pip", "install", *quiet, wheel)
    run(inside, "-c", DRAW.format(version=version), cwd=folder)
    printed = run(home / "bin" / "jaxinit", "--version", cwd=folder)
    is_right = printed == f"jaxinit {version}\n"
    check(is_right, f"{python}: installs, draws, and prints {printed.strip()}")
    tries = [run(inside, "-c", TRY, cwd=folder).split() for _ in range(5)]
    seconds = min(float(found[0]) for found in tries)
    limit = f"at most {MOST_SECONDS} s"
    text = f"import jaxinit takes {seconds:.3f} s after import jax ({limit})"
    check(seconds <= MOST_SECONDS, text)
    loaded = set(tries[0][1:])
    packages = sorted(loaded - set(sys.stdlib_module_names))
    check(not packages, f"it loads no package besides jax; loaded: {packages}")
    print(f"  it loads these standard modules: {', '.join(sorted(loaded))}")


def find_pythons() -> dict[str, str]:
    """Returns the path of each interpreter of `PYTHONS`; one may be allowed to miss."""
    found = {version: find_python(version) for version in PYTHONS}
    missing = [version for version, path in found.items() if path is None]
    text = f"Python {' and '.join(missing)} was not found"
    if missing and os.environ.get("ALLOW_MISSING_PYTHON") != "1":
        cure = "set ALLOW_MISSING_PYTHON=1 for a run without it"
        raise SystemExit(f"release-check: {text}; install it, or {cure}")
    if missing:
        print(f"  NOT RUN: {text} (ALLOW_MISSING_PYTHON=1)")
    return {version: path for version, path in found.items() if path is not None}


def main() -> None:
    """Runs every check; the first that fails ends the run with code 1."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = project["version"]
    print(f"jaxinit {version}")
    check_texts(version)
    note_links(project)
    pythons = find_pythons()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = check_archives(folder, version)
        for wanted, python in pythons.items():
            check_installed(python, wheel, version, folder / f"env-{wanted}")


if __name__ == "__main__":
    main()
