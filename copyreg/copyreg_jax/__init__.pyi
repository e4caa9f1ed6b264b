from .certificates import (
    Certificate as Certificate,
    certify as certify,
)
from .certificates.global_minimum import (
    GlobalMinimum as GlobalMinimum,
    minimize_globally as minimize_globally,
)
from .checker.check import (
    check as check,
)
from .checker.verdicts import (
    CheckResult as CheckResult,
    Verdict as Verdict,
)
from .errors import (
    InputError as InputError,
    NotCoerciveWarning as NotCoerciveWarning,
    NotConvergedError as NotConvergedError,
    PrecisionError as PrecisionError,
)
from .instances import (
    example_instance as example_instance,
    load_instance as load_instance,
    read_matrix as read_matrix,
    save_instance as save_instance,
)
from .matrices import (
    RowBlocks as RowBlocks,
    ShardedRows as ShardedRows,
)
from .problems import (
    CopyrightRegression as CopyrightRegression,
    LeaveOutRegression as LeaveOutRegression,
    SoftmaxRegression as SoftmaxRegression,
    shard as shard,
)
from .solvers import (
    AcceleratedGradient as AcceleratedGradient,
    GradientDescent as GradientDescent,
    Minima as Minima,
    NewtonCG as NewtonCG,
    Optax as Optax,
    Progress as Progress,
    SketchedNewton as SketchedNewton,
    TrustRegionNewton as TrustRegionNewton,
    multi_start as multi_start,
    solve as solve,
    solve_many as solve_many,
    solve_path as solve_path,
)
from .solvers.solution import (
    History as History,
    SecondOrder as SecondOrder,
    Solution as Solution,
    Status as Status,
)

__version__: str
