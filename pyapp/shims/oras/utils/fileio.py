"""Has the name that oras takes from here while it is loaded."""

PathAndOptionalContent = tuple
