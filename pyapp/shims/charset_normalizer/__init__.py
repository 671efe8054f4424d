"""Answers requests' question for the encoding of an unlabelled text: UTF-8 or unknown.

Registries and mirrors send JSON and bytes, which need no guess. The published package weighs more than
requests itself and makes the interpreter load every CJK codec on import.
"""

__all__ = ["__version__", "detect"]

# requests accepts any 2.x or 3.x.
__version__ = "3.0.0"


def detect(data: bytes) -> dict[str, str | None]:
    """`{"encoding": "utf-8"}` if the bytes decode as that, else `{"encoding": None}`."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return {"encoding": None}
    return {"encoding": "utf-8"}
