"""``lab images``: the images of Compose, pulled or built."""

from __future__ import annotations

import click

from lab.cli.options import json_option, print_json, print_message
from lab.errors import Interrupted
from lab.images.choice import have_images
from lab.images.pull import Registries
from lab.stack.compose.image_lock import ImageLock
from lab.stack.compose.images import LOCKS


@click.command()
@click.option("--stand-ins", is_flag=True, help="Use no official image, present or not.")
@json_option
def command(stand_ins: bool, as_json: bool) -> None:
    """Have every image of the compose stack on the engine.

    Official images are pulled where a registry answers; elsewhere stand-ins are built. The
    backend is built from this lab's own code. Says where each came from.
    """
    try:
        origins = have_images(Registries(ImageLock(*LOCKS), ask=not stand_ins), print_message)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", "run `lab images` again to go on") from None
    if as_json:
        print_json(origins)
    else:
        click.echo("\n".join(f"{image}: {origin}" for image, origin in origins.items()))
