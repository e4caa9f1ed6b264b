"""The makers of certificates, and their words. The checker is a room of its own."""

from copyreg_jax.certificates.certificate import Certificate
from copyreg_jax.certificates.make import certify

__all__ = ["Certificate", "certify"]
