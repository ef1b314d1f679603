"""Weight initialization for JAX: right in every dtype, fast, saved as plain data.

    >>> init = jaxinit.HeNormal()
    >>> init(jax.random.key(0), (784, 256)).shape
    (784, 256)

Every initializer is called as ``init(key, shape, dtype=None, out_sharding=None)``. Its
class also has a snake-case name, as in Keras: ``jaxinit.he_normal is HeNormal``. The
pure function of that name is in `jaxinit.functional`.

Variance set by the fans
    VarianceScaling, ActivationScaled, LecunNormal, LecunUniform, GlorotNormal,
    GlorotUniform (also xavier_normal, xavier_uniform), HeNormal, HeUniform (also
    kaiming_normal, kaiming_uniform), TorchKernel, TorchBias. Helpers: fans, einsum_axes
Distributions with given parameters
    RandomNormal, RandomUniform, TruncatedNormal, Sparse
Orthogonal matrices
    Orthogonal, DeltaOrthogonal, ConvOrthogonal
Deterministic values
    Zeros, Ones, Constant, FromArray, Identity, Dirac, ZerO, BilinearUpsampling,
    LinearDownsampling, STFT
Combinators, which wrap other initializers
    Scaled, DepthScaled, Normalized, Masked, Clipped, AsDtype, Stacked, Blocks,
    Concatenate, ICNR
Names, configs and your own classes
    Initializer, register, names, get, serialize, deserialize
Whole models
    plan, Plan, init, eval_shape, init_tree, fill_missing, reinit, Rules, leaf_key
Records of the drawn values
    manifest, Manifest
Effect of an initialization on the signal
    gain, activation, Activation, probe, Report, calibrate, suggest, Suggestion
Adapters to frameworks, loaded on first use
    jaxinit.linen, jaxinit.nnx, jaxinit.equinox, jaxinit.haiku, jaxinit.keras
"""

import importlib
from importlib.metadata import version

from . import functional as functional
from ._fans import einsum_axes as einsum_axes
from ._fans import fans as fans
from .initializers import ICNR as ICNR
from .initializers import STFT as STFT
from .initializers import ActivationScaled as ActivationScaled
from .initializers import AsDtype as AsDtype
from .initializers import BilinearUpsampling as BilinearUpsampling
from .initializers import Blocks as Blocks
from .initializers import Clipped as Clipped
from .initializers import Concatenate as Concatenate
from .initializers import Constant as Constant
from .initializers import ConvOrthogonal as ConvOrthogonal
from .initializers import DeltaOrthogonal as DeltaOrthogonal
from .initializers import DepthScaled as DepthScaled
from .initializers import Dirac as Dirac
from .initializers import FromArray as FromArray
from .initializers import GlorotNormal as GlorotNormal
from .initializers import GlorotUniform as GlorotUniform
from .initializers import HeNormal as HeNormal
from .initializers import HeUniform as HeUniform
from .initializers import Identity as Identity
from .initializers import Initializer as Initializer
from .initializers import LecunNormal as LecunNormal
from .initializers import LecunUniform as LecunUniform
from .initializers import LinearDownsampling as LinearDownsampling
from .initializers import Masked as Masked
from .initializers import Normalized as Normalized
from .initializers import Ones as Ones
from .initializers import Orthogonal as Orthogonal
from .initializers import RandomNormal as RandomNormal
from .initializers import RandomUniform as RandomUniform
from .initializers import Scaled as Scaled
from .initializers import Sparse as Sparse
from .initializers import Stacked as Stacked
from .initializers import TorchBias as TorchBias
from .initializers import TorchKernel as TorchKernel
from .initializers import TruncatedNormal as TruncatedNormal
from .initializers import VarianceScaling as VarianceScaling
from .initializers import ZerO as ZerO
from .initializers import Zeros as Zeros
from .initializers import activation_scaled as activation_scaled
from .initializers import as_dtype as as_dtype
from .initializers import bilinear_upsampling as bilinear_upsampling
from .initializers import blocks as blocks
from .initializers import clipped as clipped
from .initializers import concatenate as concatenate
from .initializers import constant as constant
from .initializers import conv_orthogonal as conv_orthogonal
from .initializers import delta_orthogonal as delta_orthogonal
from .initializers import depth_scaled as depth_scaled
from .initializers import dirac as dirac
from .initializers import from_array as from_array
from .initializers import glorot_normal as glorot_normal
from .initializers import glorot_uniform as glorot_uniform
from .initializers import he_normal as he_normal
from .initializers import he_uniform as he_uniform
from .initializers import icnr as icnr
from .initializers import identity as identity
from .initializers import kaiming_normal as kaiming_normal
from .initializers import kaiming_uniform as kaiming_uniform
from .initializers import lecun_normal as lecun_normal
from .initializers import lecun_uniform as lecun_uniform
from .initializers import linear_downsampling as linear_downsampling
from .initializers import masked as masked
from .initializers import normalized as normalized
from .initializers import ones as ones
from .initializers import orthogonal as orthogonal
from .initializers import random_normal as random_normal
from .initializers import random_uniform as random_uniform
from .initializers import scaled as scaled
from .initializers import sparse as sparse
from .initializers import stacked as stacked
from .initializers import stft as stft
from .initializers import torch_bias as torch_bias
from .initializers import torch_kernel as torch_kernel
from .initializers import truncated_normal as truncated_normal
from .initializers import variance_scaling as variance_scaling
from .initializers import xavier_normal as xavier_normal
from .initializers import xavier_uniform as xavier_uniform
from .initializers import zer_o as zer_o
from .initializers import zeros as zeros
from .initializers.registry import deserialize as deserialize
from .initializers.registry import get as get
from .initializers.registry import names as names
from .initializers.registry import register as register
from .initializers.registry import serialize as serialize
from .insight.activation import Activation as Activation
from .insight.activation import activation as activation
from .insight.activation import gain as gain
from .insight.calibrate import calibrate as calibrate
from .insight.probe import probe as probe
from .insight.report import Report as Report
from .insight.suggest import Suggestion as Suggestion
from .insight.suggest import suggest as suggest
from .manifests.manifest import Manifest as Manifest
from .manifests.manifest import manifest as manifest
from .planning.plan import Plan as Plan
from .rules.checkpoint import fill_missing as fill_missing
from .rules.leaf_keys import leaf_key as leaf_key
from .rules.models import eval_shape as eval_shape
from .rules.models import init as init
from .rules.models import plan as plan
from .rules.rules import Rules as Rules
from .rules.tree import init_tree as init_tree
from .rules.tree import reinit as reinit

__version__ = version("jaxinit")

# The extra of pyproject that brings the framework of each adapter.
_EXTRAS = {
    "equinox": "equinox",
    "haiku": "haiku",
    "keras": "keras",
    "linen": "flax",
    "nnx": "flax",
}


def __getattr__(name: str) -> object:
    """Loads an adapter, and the framework it adapts, on first use."""
    if name not in _EXTRAS:
        raise AttributeError(f"module 'jaxinit' has no attribute {name!r}")
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as e:
        cure = f"pip install 'jaxinit[{_EXTRAS[name]}]'"
        if name == "keras" and e.name != "keras":
            cure = "it is Keras's backend, and KERAS_BACKEND=jax chooses another"
        raise ImportError(f"jaxinit.{name} needs {e.name}: {cure}.") from e
