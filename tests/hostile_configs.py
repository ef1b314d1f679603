"""Hostile configs, in every form in which configs are accepted.

As a program this file reads them all under an audit hook. For each it prints the error
and the audit events, which test_hostile.py checks.
"""

import base64
import json
import marshal
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"


def _payload():
    """Returns a lambda as Keras writes it: its marshaled code in base64."""
    code = (lambda shape, dtype=None: __import__("os").system("id")).__code__
    return [base64.b64encode(marshal.dumps(code)).decode(), None, None]


def _deep(levels, kind):
    value = 0
    for _ in range(levels):
        value = {"a": value} if kind is dict else [value]
    return value


def _cycle():
    fields = {}
    config = {"class_name": "Constant", "config": fields}
    fields["value"] = config
    return config


LAMBDA = {"class_name": "__lambda__", "config": {"value": _payload()}}
SYSTEM = {"module": "os", "class_name": "system", "config": {"command": "id"}}
GET_FILE = {  # CVE-2025-8747: a gadget inside Keras
    "module": "keras.utils",
    "class_name": "get_file",
    "config": {"fname": "x", "origin": "http://localhost/x"},
    "registered_name": None,
}
UNSAFE = {  # CVE-2025-9906: a config that switches the safe mode off
    "module": "keras.config",
    "class_name": "enable_unsafe_deserialization",
    "config": {},
}


def _he(**fields):
    return {"module": "keras.initializers", "class_name": "HeNormal", "config": fields}


def _scaling(**fields):
    return {"class_name": "VarianceScaling", "config": fields}


def _array(value, dtype="float32", name="__numpy__"):
    array = {"class_name": name, "config": {"value": value, "dtype": dtype}}
    return {"class_name": "Constant", "config": {"value": array}}


def _generator(seed, module="keras.random"):
    fields = {"seed": seed, "name": "x"}
    return _he(seed={"module": module, "class_name": "SeedGenerator", "config": fields})


INITIALIZERS = {
    # Modules and names outside of jaxinit.
    "os.system": SYSTEM,
    "eval": {"module": "builtins", "class_name": "eval", "config": {"x": "1"}},
    "popen": {"module": "subprocess", "class_name": "Popen", "config": {"args": "id"}},
    "get_file": GET_FILE,
    "unsafe": UNSAFE,
    "func_load": {
        "module": "keras.src.utils.python_utils",
        "class_name": "func_load",
        "config": {"code": _payload()},
    },
    "function": {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    },
    "known name, foreign module": {"module": "os", "class_name": "HeNormal"},
    "nearly keras": {"module": "kerasx.initializers", "class_name": "HeNormal"},
    "relative module": {"module": "..keras", "class_name": "HeNormal"},
    "no class of keras": {"module": "keras.initializers", "class_name": "TorchKernel"},
    "dotted": {"class_name": "jaxinit.HeNormal.__init__"},
    "path": {"class_name": "../../../tmp/evil"},
    "registered elsewhere": {"class_name": "Zeros", "registered_name": "os>system"},
    # Names of Keras's and Python's own machinery.
    **{
        name: {"class_name": name, "config": {"value": _payload()}}
        for name in (
            "__lambda__",
            "__import__",
            "__class__",
            "__reduce__",
            "__bytes__",
            "__slice__",
            "__ellipsis__",
            "__keras_tensor__",
            "__numpy__",
            "__tensor__",
        )
    },
    "__typespec__": {
        "class_name": "__typespec__",
        "spec_name": "system",
        "module": "os",
        "config": ["id"],
        "registered_name": None,
    },
    # Hostile fields of registered names.
    "lambda as value": {"class_name": "Constant", "config": {"value": LAMBDA}},
    "lambda as seed": _he(seed=LAMBDA),
    "lambda as axes": _he(input_axes=[LAMBDA], output_axes=[0]),
    "lambda as scale": _scaling(scale=LAMBDA),
    "system as mode": _scaling(mode=SYSTEM),
    "system as window": {"class_name": "STFT", "config": {"window": SYSTEM}},
    "file as window": {"class_name": "STFT", "config": {"window": "/etc/passwd"}},
    "dunder field": _he(__class__="os", __init__=LAMBDA),
    "method field": _he(sample=LAMBDA, function=SYSTEM),
    "expression": {"class_name": "Constant", "config": {"value": "__import__('os')"}},
    "expression as stddev": {"class_name": "RandomNormal", "config": {"stddev": "1+1"}},
    "pickle as value": _array("cos\nsystem\n(S'id'\ntR."),
    "object dtype": _array([1.0], "object"),
    "void dtype": _array([1.0], "V999999999"),
    "string dtype": _array([1.0], "S999999999"),
    "record dtype": _array([1.0], "i4,i4"),
    "dtype expression": _array([1.0], "__import__('os')"),
    "dtype config": _array([1.0], LAMBDA),
    "strings in a tensor": _array([["id"]], name="__tensor__"),
    "lambda in a tensor": _array([LAMBDA], name="__tensor__"),
    "ragged tensor": _array([[1.0], [2.0, 3.0]]),
    "dtype of Keras 2": {"class_name": "Zeros", "config": {"dtype": LAMBDA}},
    "wrapped system": {
        "registered_name": "jaxinit>KerasInitializer",
        "class_name": "KerasInitializer",
        "config": {"initializer": SYSTEM, "seed": None},
    },
    "wrapped name": {
        "registered_name": "jaxinit>KerasInitializer",
        "class_name": "KerasInitializer",
        "config": {"initializer": "os.system", "seed": None},
    },
    "wrapped lambda seed": {
        "registered_name": "jaxinit>KerasInitializer",
        "class_name": "KerasInitializer",
        "config": {"initializer": _he(), "seed": LAMBDA},
    },
    "wrapped extra": {
        "registered_name": "jaxinit>KerasInitializer",
        "class_name": "KerasInitializer",
        "config": {"initializer": _he(), "seed": None, "hook": LAMBDA},
    },
    "generator of a lambda": _generator(LAMBDA),
    "generator elsewhere": _generator(3, "os"),
    "generator of text": _generator("3"),
    # Wrong types and values.
    "no name": {"config": {"seed": 3}, "module": "keras.initializers"},
    "name is a number": {"class_name": 3},
    "name is a list": {"class_name": ["HeNormal"]},
    "name is a dict": {"class_name": {"class_name": "HeNormal"}},
    "registered name is a dict": {"class_name": "Zeros", "registered_name": SYSTEM},
    "module is a list": {"class_name": "Zeros", "module": ["keras"]},
    "module is a dict": {"class_name": "Zeros", "module": SYSTEM},
    "config is a list": {"class_name": "Zeros", "config": [SYSTEM]},
    "config is text": {"class_name": "Zeros", "config": "{}"},
    "other keys": {"class_name": "Zeros", "config": {}, "exec": "id"},
    "keys are numbers": {"class_name": "Zeros", "config": {3: 4}},
    "seed is a float": _he(seed=1.5),
    "seed is text": _he(seed="3"),
    "seed is true": _he(seed=True),
    "seed is huge": _he(seed=10**4000),
    "scale is text": _scaling(scale="2"),
    "scale is infinite": _scaling(scale=float("inf")),
    "scale is huge": _scaling(scale=10**4000),
    "scale is negative": _scaling(scale=-1.0),
    "mode is a list": _scaling(mode=["fan_in"]),
    "distribution is a dict": _scaling(distribution={"a": 1}),
    "axes of Keras and ours": _he(input_axes=[0], output_axes=[1], in_axis=0),
    "axes twice": _he(input_axes=[0, 0], output_axes=[1]),
    "axes shared": _he(input_axes=[0], output_axes=[0, 1]),
    "axes are text": _he(input_axes="01", output_axes=[2]),
    "stddev is nan": {"class_name": "RandomNormal", "config": {"stddev": float("nan")}},
    "stft": {"class_name": "STFT", "config": {"window": "kaiser"}},
    "dtype that is no expression": _array([1.0], ","),
    "dtype of half an expression": _array([1.0], "f4,("),
    # Sizes.
    "long texts": {"class_name": "Constant", "config": {"value": ["x" * 10**6] * 99}},
    "many axes": _he(input_axes=[*range(10**5)], output_axes=[10**6]),
    "blocks": {
        "class_name": "Blocks",
        "config": {"initializer": "zeros", "sizes": 10**400},
    },
    "layers": {
        "class_name": "DepthScaled",
        "config": {"initializer": "zeros", "num_layers": 10**400},
    },
    "escape": {"class_name": "\x1b[2J"},
    "deep dicts": {"class_name": "Constant", "config": _deep(10_000, dict)},
    "deep lists": _he(seed=_deep(10_000, list)),
    "deep class names": {"class_name": _deep(10_000, dict)},
    "cycle": _cycle(),
    "wide": {"class_name": "Constant", "config": {"value": [[0] * 2000] * 2000}},
    "long name": {"class_name": "x" * 10**7},
    "long module": {"module": "x" * 10**7, "class_name": "HeNormal"},
    "long field": _he(**{"x" * 10**6: 1}),
    "many fields": _he(**{f"x{i}": i for i in range(100_000)}),
    "many keys": {"class_name": "Zeros", **{f"x{i}": i for i in range(100_000)}},
    "long text": {"class_name": "Constant", "config": {"value": "1" * 10**7}},
}
NAMES = {
    "dotted": "os.system",
    "dunder": "__import__",
    "lambda": "lambda shape: None",
    "expression": "HeNormal().sample",
    "call": "os.system('id')",
    "call inside": "normal(stddev=__import__('os').system('id'))",
    "sum": "normal(stddev=1+1)",
    "comprehension": "normal(stddev=[x for x in ().__class__.__base__])",
    "formatted": "normal(stddev=f'{__import__(1)}')",
    "star": "normal(*[1], **{'seed': 1})",
    "other call": "normal(seed=1)(seed=2)",
    "inner call": "stacked(initializer='os.system(id=1)')",
    "unknown argument": "normal(__class__='os')",
    "deep call": "normal(stddev=" + "(" * 900,
    "deep signs": "normal(stddev=" + "-" * 900 + "1)",
    "long call": "normal(" + "x=1," * 10**6,
    "escape in a call": "normal(seed='\x1b[2J')",
    "file": "/etc/passwd",
    "address": "http://localhost/config.json",
    "long": "x" * 10**7,
    "empty": "",
}
TEXTS = {
    "deep lists": "[" * 200_000,
    "deep dicts": '{"a":' * 200_000,
    "deep and closed": "[" * 100_000 + "]" * 100_000,
    "repeated key": '{"class_name": "Zeros", "class_name": "HeNormal"}',
    "repeated key inside": '{"class_name": "HeNormal", "config": '
    '{"seed": 1, "seed": {"class_name": "__lambda__"}}}',
    "repeated initializer": '{"kernel_initializer": "zeros", '
    '"kernel_initializer": "ones"}',
    "many digits": '{"class_name": "HeNormal", "config": {"seed": '
    + "1" * 10_000
    + "}}",
    "infinite": '{"class_name": "Identity", "config": {"gain": 1e999}}',
    "unfinished": '{"class_name": "Zeros"',
    "followed": '{"class_name": "Zeros"}; import os',
    "not JSON": "{'class_name': 'Zeros'}",
    "a list": '[{"class_name": "Zeros"}]',
    "surrogate": '{"class_name": "\\ud800"}',
    "very long": '{"class_name": "Zeros"}' + " " * 2**25,
}


def _layer(config):
    fields = {"name": "dense", "kernel_initializer": config}
    return {"module": "keras.layers", "class_name": "Dense", "config": fields}


def _model(config):
    inner = {"class_name": "Sequential", "config": {"layers": [_layer(config)]}}
    return {"name": "model", "layers": [inner]}


def _wrapper(config):
    return {
        "module": "jaxinit.keras",
        "class_name": "KerasInitializer",
        "config": {"initializer": config, "seed": None},
        "registered_name": "jaxinit>KerasInitializer",
    }


def _text(config):
    try:
        return json.dumps(config)
    except (TypeError, ValueError, RecursionError):
        return None  # not JSON: nothing to send


def forms():
    """Yields the name of each form, its reader, and the config or text."""
    import keras

    import jaxinit
    import jaxinit.keras

    from_keras = jaxinit.keras.from_keras
    for name, config in INITIALIZERS.items():
        yield f"deserialize: {name}", jaxinit.deserialize, config
        yield f"get: {name}", jaxinit.get, config
        yield f"from_keras: {name}", from_keras, config
        yield f"layer: {name}", from_keras, _layer(config)
        yield f"layer fields: {name}", from_keras, _layer(config)["config"]
        yield f"model: {name}", from_keras, _model(config)
        yield f"wrapper: {name}", jaxinit.deserialize, _wrapper(config)
        yield f"keras: {name}", keras.initializers.get, _wrapper(config)
        if isinstance(config.get("config"), dict):
            yield f"fields: {name}", jaxinit.HeNormal.from_config, config
        text = _text(config)
        if text is not None and len(text) < 2**20:
            yield f"text: {name}", from_keras, text
            yield f"model text: {name}", from_keras, _text(_model(config))
    for name, text in NAMES.items():
        yield f"name, deserialize: {name}", jaxinit.deserialize, text
        yield f"name, from_keras: {name}", from_keras, text
        yield f"name, layer: {name}", from_keras, _layer(text)
    for name, text in TEXTS.items():
        yield f"text: {name}", from_keras, text
        yield f"text as a name: {name}", jaxinit.deserialize, text
        yield f"text in a layer: {name}", from_keras, _layer(text)


def main():
    import jaxinit

    events = []
    watching = False

    def hook(event, args):
        if watching and event not in ("sys._getframe", "object.__getattr__"):
            events.append(f"{event} {str(args)[:80]}")

    assert jaxinit.get("he_normal")
    cases = list(forms())
    sys.addaudithook(hook)
    for name, read, config in cases:
        events.clear()
        watching = True
        try:
            result = read(config)
        except Exception as e:
            watching = False
            outcome = [type(e).__name__, str(e)[:2000]]
        else:
            watching = False
            outcome = ["read", repr(result)[:200]]
        print(json.dumps([name, *outcome, events]))


if __name__ == "__main__":
    main()
