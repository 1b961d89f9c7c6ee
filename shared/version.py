"""The version of everything in this package."""

VERSION = "0.1.0"
