"""Plain data in JSON and YAML files, read without surprises."""

import json
from pathlib import Path
from typing import Any


def read(path: str | Path) -> Any:
    """The plain data of a .json, .yaml or .yml file.

    Raises:
        ValueError: If it is not valid, names a key twice, or has another suffix.
        ImportError: If it is YAML and PyYAML is not installed.
    """
    path = Path(path)
    load = _load_yaml if _is_yaml(path) else loads
    try:
        return load(path.read_text("utf-8"))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path}: {e}") from None


def write(path: str | Path, data: Any) -> None:
    """Writes plain data to a .json, .yaml or .yml file.

    An infinite number is ``Infinity`` in JSON, as Python writes and reads it.
    """
    path = Path(path)
    if _is_yaml(path):
        text = _yaml().safe_dump(data, sort_keys=False, allow_unicode=True)
    else:
        text = json.dumps(data, indent=2) + "\n"
    path.write_text(text, "utf-8")


def loads(text: str) -> Any:
    """JSON in which no object names a key twice."""
    return json.loads(text, object_pairs_hook=_object)


def _is_yaml(path: Path) -> bool:
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ValueError(f"{path} must end in .json, .yaml or .yml.")
    return path.suffix != ".json"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key {name!r} is there twice.")
        made[name] = value
    return made


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as e:
        raise ImportError(
            "YAML files need PyYAML: pip install 'jaxinit[yaml]', or use .json."
        ) from e
    return yaml


def _load_yaml(text: str) -> Any:
    yaml = _yaml()

    class Loader(yaml.SafeLoader):  # plain data alone, as yaml.safe_load
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            names = [k.value for k, _ in pairs if isinstance(k, yaml.ScalarNode)]
            _object([(name, None) for name in names])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as e:
        cure = " Patterns need quotes: '**/bias': zeros." if "alias" in str(e) else ""
        raise ValueError(f"{e}{cure}") from None
