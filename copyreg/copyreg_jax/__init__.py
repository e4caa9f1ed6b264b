"""Softmax regression and copyright regression in JAX, with certificates.

``import copyreg_jax as cr``, then `CopyrightRegression`, `solve`, `certify`, `check`. Names are
loaded when first used, so that importing this package starts neither JAX nor a device.
"""

import lazy_loader

__version__ = "0.1.0"

# The public names are listed once, in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
