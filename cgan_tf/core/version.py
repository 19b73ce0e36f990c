"""The version of the library, here since `core` must not import the package's public interface."""

__version__ = "0.1.0"
