"""Checks that need a fresh process: another backend, or no imports yet.

Run as `python keras_process.py MODE ARGUMENTS`; prints what test_to_keras.py checks.
"""

import importlib
import json
import os
import sys


def load(path, inputs):
    """Loads a model after `import jaxinit.keras` alone, and trains it further."""
    import numpy as np

    import jaxinit.keras

    assert jaxinit.keras
    import keras

    model = keras.models.load_model(path)
    x = np.load(inputs)
    loss = model.fit(x, x[:, :1], epochs=5, verbose=0).history["loss"]
    same = [np.asarray(w) for w in keras.models.load_model(path).weights]
    return {
        "config": model.get_config()["layers"][1]["config"]["kernel_initializer"],
        "sums": [float(abs(w).sum()) for w in same],
        "losses": loss,
    }


def torch():
    """Checks the torch backend: torch's tensors have the values of jaxinit."""
    import jax
    import numpy as np

    import jaxinit.keras

    import keras  # isort: skip

    torch = importlib.import_module("torch")  # where it is installed

    to_keras = jaxinit.keras.to_keras
    key = jax.random.wrap_key_data(jax.numpy.array([3, 0], "uint32"))
    results = {}
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        tensor = to_keras(jaxinit.HeNormal(), seed=3)((64, 32), dtype)
        assert isinstance(tensor, torch.Tensor) and f"torch.{dtype}" == str(
            tensor.dtype
        )
        with jax.enable_x64(dtype == "float64"):
            expected = np.asarray(jaxinit.HeNormal()(key, (64, 32), dtype), np.float64)
        difference = tensor.to(torch.float64).cpu().numpy() - expected
        results[dtype] = float(abs(difference).max())
    initializer = to_keras("he_normal", keras.random.SeedGenerator(3))
    first, second = (np.asarray(initializer((64, 32))) for _ in range(2))
    results["repeats"] = float((first == second).mean())
    results["generator"] = float(
        abs(first - np.asarray(jaxinit.HeNormal()(key, (64, 32)))).max()
    )
    initializer = to_keras("he_normal")
    first, second = (np.asarray(initializer((64, 32))) for _ in range(2))
    results["advances"] = float((first == second).mean())
    layer = keras.layers.Dense(4, kernel_initializer=to_keras("he_normal"))
    model = keras.Sequential([keras.Input((3,)), layer])
    results["layer"] = list(model(np.ones((2, 3), "float32")).shape)
    results["zeros"] = to_keras("zeros")((2,), "int32").tolist()
    return results


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    os.environ["KERAS_BACKEND"] = "torch" if mode == "torch" else "jax"
    print(json.dumps({"load": load, "torch": torch}[mode](*arguments)))
