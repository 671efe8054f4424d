"""Build an image from a Containerfile with buildah or podman, which know all of its language."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from bootc_live.base.errors import RunError, SourceError
from bootc_live.base.output import print_details
from bootc_live.base.redact import redact
from bootc_live.config.source_spec import Containerfile
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.guard import owned
from bootc_live.system.run import find_program, run, run_shown

_LAYOUT = "layout"
# Programs that build, and how each writes the image {} as a layout, uncompressed: it is only read once. The path is
# relative, because a colon in it would begin the name of the image.
_BUILDERS = {
    "buildah": ("push", "--disable-compression", "{}", f"oci:{_LAYOUT}"),
    "podman": ("save", "--uncompressed", "--format", "oci-dir", "--output", _LAYOUT, "{}"),
}
# Where these programs have their own temporary files: often the only place on a disk of a system that runs from RAM.
_TEMPORARY = "/var/tmp"  # noqa: S108


def find_builder(source_text: str) -> str:
    """Return the path of a program that builds images; raise RunError."""
    for name in _BUILDERS:
        found = find_program(name)
        if found is not None:
            return found
    raise RunError(
        f"{source_text!r} cannot be built: neither buildah nor podman is installed",
        hint="install one of them, or build the image elsewhere and name it as SOURCE",
    )


@contextmanager
def built_layout(spec: Containerfile) -> Iterator[str]:
    """Build an image, and return the path of an OCI layout with it; both are gone after the block.

    What the program prints is shown as it comes. Raise SourceError, RunError and ConfigError.
    """
    builder = find_builder(spec.source_text)
    name = f"localhost/bootc-live:{os.urandom(8).hex()}"
    with private_directory(os.environ.get("TMPDIR") or _TEMPORARY, "bootc-live.") as directory:
        run_it = partial(_run, spec, builder, directory)
        # The image itself is only needed for the moment; the storage is that of all images of this user.
        with owned(_announced, remove_image, builder, name):
            # Without layers, it leaves no images of single steps.
            run_it("build", "--format", "oci", "--layers=false", "--file", spec.path, "--tag", name, spec.context)
            run_it(*(word.format(name) for word in _BUILDERS[os.path.basename(builder)]))
        yield os.path.join(directory, _LAYOUT)


def _run(spec: Containerfile, builder: str, directory: str, *words: str) -> None:
    # Its own configuration, logins and proxies are in the user's environment.
    environment = {**os.environ, "TMPDIR": directory}
    try:
        run_shown([builder, *words], lambda line: print_details([redact(line)]), cwd=directory, env=environment)
    except RunError as error:
        raise SourceError(
            f"{spec.source_text!r} cannot be built: {error.message}", hint="look at the output of the program above"
        ) from error


def _announced(builder: str, name: str) -> list[str]:
    """Return what ``remove_image`` needs: it is known before anything is made."""
    return [builder, name]


def remove_image(builder_and_name: list[str]) -> None:
    """Remove an image by its name; it stays if it has another one. Do nothing if it was not made."""
    builder, name = builder_and_name
    with suppress(RunError):
        run([builder, "rmi", name], env=os.environ)
