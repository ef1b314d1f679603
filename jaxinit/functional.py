"""Every pure function: ``f(key, shape, dtype=None, *, ..., out_sharding=None)``."""

from .initializers.constant import constant as constant
from .initializers.constant import from_array as from_array
from .initializers.constant import ones as ones
from .initializers.constant import zeros as zeros
from .initializers.conv_orthogonal import conv_orthogonal as conv_orthogonal
from .initializers.conv_orthogonal import delta_orthogonal as delta_orthogonal
from .initializers.glorot import glorot_normal as glorot_normal
from .initializers.glorot import glorot_uniform as glorot_uniform
from .initializers.he import he_normal as he_normal
from .initializers.he import he_uniform as he_uniform
from .initializers.identity import identity as identity
from .initializers.lecun import lecun_normal as lecun_normal
from .initializers.lecun import lecun_uniform as lecun_uniform
from .initializers.orthogonal import orthogonal as orthogonal
from .initializers.random import random_normal as random_normal
from .initializers.random import random_uniform as random_uniform
from .initializers.random import truncated_normal as truncated_normal
from .initializers.stft import stft as stft
from .initializers.variance_scaling import variance_scaling as variance_scaling
