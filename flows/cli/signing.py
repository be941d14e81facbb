"""``fusion models keygen | sign | verify``: who vouches for a model version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.settings import Settings
from flows.terminal import CONSOLE
from flows.trust import make_key_pair, signing_key, trusted_keys
from fusion.errors import SettingsError
from fusion.manifest import load_manifest
from fusion.signing import fingerprint, require_trusted, write_contents

ModelFolder = Annotated[
    Path, typer.Argument(metavar="MODEL_DIR", help="The folder that `fusion train` printed.")
]


def keygen(
    path: Annotated[Path, typer.Argument(help="Two files are written: PATH.key and PATH.pub.")],
) -> None:
    """Make a pair of keys: PATH.key signs models, PATH.pub is what others trust.

    Keep PATH.key where models are made (FUSION_MODEL_SIGNING_KEY_FILE) and nowhere else; several
    .pub files behind one another are a file for FUSION_MODEL_TRUSTED_KEYS_FILE.

    Example: [bold]fusion models keygen keys/plant[/bold]
    """
    private, public, name = make_key_pair(path)
    CONSOLE.print(f"key [bold]{name}[/bold]: {private} signs, {public} is to be trusted")


def sign(model_dir: ModelFolder) -> None:
    """Sign a version as it lies there now, with the key of FUSION_MODEL_SIGNING_KEY_FILE.

    `fusion train` and `fusion export --int8` sign what they make. This is for versions from before
    there was a key: look at them first, since whatever lies there is vouched for.

    Example: [bold]fusion models sign out/models/rig/20261126T101500-standard[/bold]
    """
    key = signing_key(Settings.load())
    if key is None:
        raise SettingsError(
            "FUSION_MODEL_SIGNING_KEY_FILE must name the private key to sign with, and is not set; "
            "`fusion models keygen` makes one"
        )
    manifest = load_manifest(model_dir)
    contents = write_contents(model_dir, key)
    CONSOLE.print(
        f"{manifest.version} is signed by {fingerprint(key.public_key())}: "
        f"{len(contents.files)} files"
    )


def verify(model_dir: ModelFolder) -> None:
    """Say who signed a version, and that every file is as it was then; exit status 2 if not.

    Example: [bold]fusion models verify out/models/rig/20261126T101500-standard[/bold]
    """
    keys = trusted_keys(Settings.load())
    if keys is None:
        raise SettingsError(
            "FUSION_MODEL_TRUSTED_KEYS_FILE must name the public keys to trust, and is not set; "
            "without it any model is opened"
        )
    verified = require_trusted(model_dir, keys)
    CONSOLE.print(
        f"{model_dir.name} is as {verified.key} has signed it: {len(verified.contents.files)} files"
    )
