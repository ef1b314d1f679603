"""The command ``jaxinit``: parses its arguments and runs one of its commands."""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from ._compat import x64_for
from .cli import arguments
from .cli.arguments import Parser
from .cli.catalogue import catalogue
from .cli.demo import MODELS, demo
from .cli.explain import explain
from .cli.probe import probe
from .cli.show import draw, lines, plot, summarize
from .cli.suggest import suggest
from .cli.usage import UsageError
from .cli.verify import verify

_SIGINT, _SIGPIPE = 130, 141  # as of a shell


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Its arguments; None for those of the process.

    Returns:
        Exit code. 1: a check of the demo failed, the rules do not fit the model, the
        probe found a fault, or the parameters differ from the manifest. 2: an argument,
        a file or a factory is bad, or jaxinit itself failed. 130: an interrupt. 141:
        nobody reads the output. Shells use these two codes as well. 0 otherwise.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files and leaves may have characters that the terminal lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except UsageError as e:
        print(f"jaxinit: {e}", file=sys.stderr)
        return 2
    except MemoryError:
        print("jaxinit: out of memory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxinit: interrupted", file=sys.stderr)
        return _SIGINT
    except BrokenPipeError:
        # The reader left, as in "list | head". The rest of the output goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGPIPE
    except Exception:  # a fault of the library; code 1 has another meaning
        traceback.print_exc()
        return 2


def _parser() -> Parser:
    parser = Parser(
        prog="jaxinit",
        description="Weight initialization for JAX.",
        allow_abbrev=False,
    )
    version = f"%(prog)s {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser
    text = "initialize a model from a config, twice, and measure it"
    _add_demo(add("demo", help=text, description=text, allow_abbrev=False))
    text = "print the rule of each leaf of a model"
    _add_explain(add("explain", help=text, description=text, allow_abbrev=False))
    text = "measure the signal of a model, forward and backward"
    _add_probe(add("probe", help=text, description=text, allow_abbrev=False))
    text = "print every registered initializer"
    listing = add("list", help=text, description=text, allow_abbrev=False)
    listing.set_defaults(run=_list)
    text = "print statistics of one initializer's values"
    _add_show(add("show", help=text, description=text, allow_abbrev=False))
    text = "compare the parameters of a model with a manifest"
    _add_verify(add("verify", help=text, description=text, allow_abbrev=False))
    text = "find rules that give a model a steady signal"
    _add_suggest(add("suggest", help=text, description=text, allow_abbrev=False))
    return parser


def _add_demo(p: argparse.ArgumentParser) -> None:
    p.add_argument("--model", choices=MODELS, default=MODELS[0])
    p.add_argument(
        "--layers",
        type=arguments.positive,
        help="blocks or hidden layers (default: 12 of gpt2, 16 of resnet50, 3 of mlp)",
    )
    p.add_argument(
        "--width",
        type=arguments.positive,
        help="width (default: 768 of gpt2, 64 of resnet50, 1024 of mlp)",
    )
    p.add_argument(
        "--vocab", type=arguments.positive, help="vocabulary of gpt2 (default: 50257)"
    )
    p.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "float64"),
        default="float32",
        help="dtype of the parameters",
    )
    p.add_argument("--seed", type=arguments.seed, default=0, help="seed of the key")
    p.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON config of the initializers, read if it exists and written if not",
    )
    p.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        help="JSON or YAML file of rules, which go before the config",
    )
    _add_allow_regex(p)
    p.set_defaults(run=_demo)


def _add_explain(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="a function without arguments that returns parameters or their shapes",
    )
    p.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        required=True,
        help="JSON or YAML file of rules",
    )
    _add_allow_regex(p)
    p.set_defaults(run=_explain)


def _add_probe(p: argparse.ArgumentParser) -> None:
    _add_model(p)
    p.add_argument(
        "--rules",
        type=Path,
        metavar="FILE",
        help="JSON or YAML file of rules; the parameters are drawn by them",
    )
    _add_allow_regex(p)
    p.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="file of --json from an earlier probe; print the places that differ",
    )
    p.add_argument("--html", type=Path, metavar="FILE", help="write an HTML page")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    p.add_argument("--seed", type=arguments.seed, default=0, help="seed of the key")
    p.set_defaults(run=_probe)


def _add_model(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="a function without arguments that returns (fn, params, inputs), or "
        "(model, inputs) with a model of Flax or, under vmap, of Equinox",
    )


def _add_allow_regex(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--allow-regex",
        action="store_true",
        help="accept regular expressions in the rules; some take hours on one path",
    )


def _add_show(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", help="he_normal or 'normal(stddev=0.02)'; see list")
    p.add_argument(
        "--shape", type=arguments.shape, default=(512, 256), help="such as 512,256"
    )
    p.add_argument(
        "--dtype", type=arguments.dtype, default="float32", help="such as bfloat16"
    )
    p.add_argument(
        "--set",
        type=arguments.setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="an argument of the initializer, in JSON: stddev=0.02",
    )
    p.add_argument(
        "--seed",
        type=arguments.seed,
        help="seed of the key (default: the initializer's, or 0)",
    )
    p.add_argument(
        "--plot",
        type=arguments.png,
        metavar="FILE.png",
        help="a picture of histogram and spectrum",
    )
    p.set_defaults(run=_show)


def _add_verify(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "manifest", type=Path, metavar="FILE", help="JSON or YAML file of a manifest"
    )
    p.add_argument(
        "factory",
        metavar="MODULE:FACTORY",
        help="a function that returns parameters; it may take the key of the manifest",
    )
    _add_allow_regex(p)
    p.set_defaults(run=_verify)


def _add_suggest(p: argparse.ArgumentParser) -> None:
    _add_model(p)
    p.add_argument(
        "--out", type=Path, metavar="FILE", help="JSON or YAML file for the rules"
    )
    p.add_argument(
        "--seed", type=arguments.seed, default=0, help="seed of the parameters"
    )
    p.set_defaults(run=_suggest)


def _demo(args: argparse.Namespace) -> int:
    args.dtype = arguments.dtype(args.dtype)
    with x64_for(args.dtype):
        return demo(args)


def _explain(args: argparse.Namespace) -> int:
    return explain(args.factory, args.rules, allow_regex=args.allow_regex)


def _probe(args: argparse.Namespace) -> int:
    return probe(
        args.factory,
        rules=args.rules,
        allow_regex=args.allow_regex,
        compare=args.compare,
        html=args.html,
        json=args.json,
        seed=args.seed,
    )


def _list(args: argparse.Namespace) -> int:
    print(*catalogue(), sep="\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    init = arguments.initializer(args.name, args.settings)
    with x64_for(args.dtype):
        values = draw(init, args.shape, args.dtype, args.seed)
    summary = summarize(values)
    if args.plot is not None:
        title = f"{init!r}, shape {args.shape}, {args.dtype.name}"
        plot(args.plot, title, values, summary)
    print(*lines(init, values, args.dtype, summary), sep="\n")
    return 0


def _verify(args: argparse.Namespace) -> int:
    return verify(args.manifest, args.factory, allow_regex=args.allow_regex)


def _suggest(args: argparse.Namespace) -> int:
    return suggest(args.factory, args.out, args.seed)


if __name__ == "__main__":
    sys.exit(main())
