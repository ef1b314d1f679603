"""Weight initialization for JAX: right in every dtype, fast, and plain data."""

from importlib.metadata import version

from . import functional as functional
from ._fans import einsum_axes as einsum_axes
from ._fans import fans as fans
from .initializers import STFT as STFT
from .initializers import STFT as stft
from .initializers import Constant as Constant
from .initializers import Constant as constant
from .initializers import FromArray as FromArray
from .initializers import FromArray as from_array
from .initializers import GlorotNormal as GlorotNormal
from .initializers import GlorotNormal as glorot_normal
from .initializers import GlorotNormal as xavier_normal
from .initializers import GlorotUniform as GlorotUniform
from .initializers import GlorotUniform as glorot_uniform
from .initializers import GlorotUniform as xavier_uniform
from .initializers import HeNormal as HeNormal
from .initializers import HeNormal as he_normal
from .initializers import HeNormal as kaiming_normal
from .initializers import HeUniform as HeUniform
from .initializers import HeUniform as he_uniform
from .initializers import HeUniform as kaiming_uniform
from .initializers import Identity as Identity
from .initializers import Identity as identity
from .initializers import Initializer as Initializer
from .initializers import LecunNormal as LecunNormal
from .initializers import LecunNormal as lecun_normal
from .initializers import LecunUniform as LecunUniform
from .initializers import LecunUniform as lecun_uniform
from .initializers import Ones as Ones
from .initializers import Ones as ones
from .initializers import RandomNormal as RandomNormal
from .initializers import RandomNormal as random_normal
from .initializers import RandomUniform as RandomUniform
from .initializers import RandomUniform as random_uniform
from .initializers import TruncatedNormal as TruncatedNormal
from .initializers import TruncatedNormal as truncated_normal
from .initializers import VarianceScaling as VarianceScaling
from .initializers import VarianceScaling as variance_scaling
from .initializers import Zeros as Zeros
from .initializers import Zeros as zeros
from .initializers.registry import deserialize as deserialize
from .initializers.registry import get as get
from .initializers.registry import names as names
from .initializers.registry import register as register
from .initializers.registry import serialize as serialize

__version__ = version("jaxinit")
