"""Every built-in initializer class, registered under its identifiers."""

from .activation_scaled import ActivationScaled
from .base import Initializer as Initializer
from .blocks import Blocks, Concatenate, Stacked
from .constant import Constant, FromArray, Ones, Zeros
from .conv_orthogonal import ConvOrthogonal, DeltaOrthogonal
from .entrywise import AsDtype, Clipped, Masked
from .glorot import GlorotNormal, GlorotUniform
from .he import HeNormal, HeUniform
from .icnr import ICNR
from .identity import Dirac, Identity
from .lecun import LecunNormal, LecunUniform
from .orthogonal import Orthogonal
from .random import RandomNormal, RandomUniform, TruncatedNormal
from .registry import register
from .resampling import BilinearUpsampling, LinearDownsampling
from .scaled import DepthScaled, Normalized, Scaled
from .sparse import Sparse
from .stft import STFT
from .torch import TorchBias, TorchKernel
from .variance_scaling import VarianceScaling
from .zer_o import ZerO

BUILT_IN: tuple[type[Initializer], ...] = (
    Zeros,
    Ones,
    Constant,
    FromArray,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    ActivationScaled,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Identity,
    Dirac,
    ZerO,
    Sparse,
    BilinearUpsampling,
    LinearDownsampling,
    ICNR,
    STFT,
    Scaled,
    DepthScaled,
    Normalized,
    Masked,
    Clipped,
    AsDtype,
    Stacked,
    Blocks,
    Concatenate,
    TorchKernel,
    TorchBias,
    Orthogonal,
    DeltaOrthogonal,
    ConvOrthogonal,
)

for _cls in BUILT_IN:
    register(_cls)

# As in Keras, the snake-case names are the classes: kernel_init=he_normal().
stft = STFT
activation_scaled = ActivationScaled
as_dtype = AsDtype
bilinear_upsampling = BilinearUpsampling
blocks = Blocks
clipped = Clipped
concatenate = Concatenate
constant = Constant
depth_scaled = DepthScaled
dirac = Dirac
from_array = FromArray
conv_orthogonal = ConvOrthogonal
delta_orthogonal = DeltaOrthogonal
glorot_normal = xavier_normal = GlorotNormal
glorot_uniform = xavier_uniform = GlorotUniform
he_normal = kaiming_normal = HeNormal
he_uniform = kaiming_uniform = HeUniform
icnr = ICNR
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
linear_downsampling = LinearDownsampling
masked = Masked
normalized = Normalized
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
scaled = Scaled
sparse = Sparse
stacked = Stacked
torch_bias = TorchBias
torch_kernel = TorchKernel
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zer_o = ZerO
zeros = Zeros
