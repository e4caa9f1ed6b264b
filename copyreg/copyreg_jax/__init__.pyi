from .certificates import (
    Certificate as Certificate,
)
from .certificates import (
    certify as certify,
)
from .checker.check import (
    CheckResult as CheckResult,
)
from .checker.check import (
    check as check,
)
from .checker.verdicts import (
    Verdict as Verdict,
)
from .errors import (
    InputError as InputError,
)
from .errors import (
    NotCoerciveWarning as NotCoerciveWarning,
)
from .errors import (
    NotConvergedError as NotConvergedError,
)
from .errors import (
    PrecisionError as PrecisionError,
)
from .instances import (
    example_instance as example_instance,
)
from .instances import (
    load_instance as load_instance,
)
from .instances import (
    save_instance as save_instance,
)
from .matrices import (
    RowBlocks as RowBlocks,
)
from .matrices import (
    ShardedRows as ShardedRows,
)
from .problems import (
    CopyrightRegression as CopyrightRegression,
)
from .problems import (
    SoftmaxRegression as SoftmaxRegression,
)
from .problems import (
    shard as shard,
)
from .solvers import (
    AcceleratedGradient as AcceleratedGradient,
)
from .solvers import (
    GradientDescent as GradientDescent,
)
from .solvers import (
    Minima as Minima,
)
from .solvers import (
    NewtonCG as NewtonCG,
)
from .solvers import (
    Optax as Optax,
)
from .solvers import (
    Progress as Progress,
)
from .solvers import (
    SketchedNewton as SketchedNewton,
)
from .solvers import (
    TrustRegionNewton as TrustRegionNewton,
)
from .solvers import (
    multi_start as multi_start,
)
from .solvers import (
    solve as solve,
)
from .solvers import (
    solve_many as solve_many,
)
from .solvers import (
    solve_path as solve_path,
)
from .solvers.solution import (
    History as History,
)
from .solvers.solution import (
    SecondOrder as SecondOrder,
)
from .solvers.solution import (
    Solution as Solution,
)
from .solvers.solution import (
    Status as Status,
)

__version__: str
