"""Every built-in initializer class, registered under its identifiers."""

from .base import Initializer as Initializer
from .constant import Constant, FromArray, Ones, Zeros
from .conv_orthogonal import ConvOrthogonal, DeltaOrthogonal
from .glorot import GlorotNormal, GlorotUniform
from .he import HeNormal, HeUniform
from .identity import Identity
from .lecun import LecunNormal, LecunUniform
from .orthogonal import Orthogonal
from .random import RandomNormal, RandomUniform, TruncatedNormal
from .registry import register
from .stft import STFT
from .variance_scaling import VarianceScaling

BUILT_IN: tuple[type[Initializer], ...] = (
    Zeros,
    Ones,
    Constant,
    FromArray,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Identity,
    STFT,
    Orthogonal,
    DeltaOrthogonal,
    ConvOrthogonal,
)

for _cls in BUILT_IN:
    register(_cls)

# Names of functions elsewhere, of classes here, as in Keras: he_normal().
stft = STFT
constant = Constant
from_array = FromArray
conv_orthogonal = ConvOrthogonal
delta_orthogonal = DeltaOrthogonal
glorot_normal = xavier_normal = GlorotNormal
glorot_uniform = xavier_uniform = GlorotUniform
he_normal = kaiming_normal = HeNormal
he_uniform = kaiming_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros
