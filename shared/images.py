"""Images by one name: steps and nodes call the same image differently. Pure.

Source: the reference grammar of distribution (github.com/distribution/reference), as Docker and containerd complete it.
"""

import hashlib
from functools import lru_cache

TOKEN_LENGTH = 12


@lru_cache(maxsize=4096)
def canonical(image: str) -> str:
    """`python` is `docker.io/library/python:latest`."""
    host, slash, rest = image.partition("/")
    is_host = bool(slash) and ("." in host or ":" in host or host == "localhost")
    host, path = (host, rest) if is_host else ("docker.io", image)
    if host in ("docker.io", "index.docker.io"):
        host, path = "docker.io", path if "/" in path else f"library/{path}"
    named = "@" in path or ":" in path.rpartition("/")[2]
    return f"{host}/{path}" if named else f"{host}/{path}:latest"


@lru_cache(maxsize=4096)
def image_token(image: str) -> str:
    """The same for all names of an image; short, for records."""
    return hashlib.sha256(canonical(image).encode()).hexdigest()[:TOKEN_LENGTH]
