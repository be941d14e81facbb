"""With trusted keys no unsigned or altered model is opened, wherever models are opened."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.export import export_to_triton
from flows.in_service import InService
from flows.rollout import promote
from flows.rollout_journal import journal_of
from flows.rollout_watch import Watched
from flows.settings import Settings
from flows.trust import make_key_pair, seal, trusted_model
from flows.what_if import open_what_if
from flows.wiring import Batching, open_clock
from fusion.errors import InputError, SettingsError, UntrustedModelError
from fusion.manifest import MANIFEST_FILE
from fusion.rollout.states import Action
from tests.models import PLANT


@pytest.fixture
def settings(tmp_path: Path, model_dir: Path) -> Settings:
    """A place with keys and one version, signed there."""
    private, public, _ = make_key_pair(tmp_path / "plant")
    made = Settings(
        data_dir=tmp_path / "out",
        model_signing_key_file=private,
        model_trusted_keys_file=public,
    )
    shutil.copytree(model_dir, version_in(made))
    seal(version_in(made), made)
    return made


def version_in(settings: Settings) -> Path:
    return settings.models_dir / PLANT.prefix / "1"


def alter(settings: Settings) -> None:
    path = version_in(settings) / "normaliser.safetensors"
    text = bytearray(path.read_bytes())
    text[-1] ^= 1
    path.write_bytes(text)


def test_a_signed_version_is_opened_from_a_copy_that_goes_away(settings: Settings) -> None:
    with trusted_model(version_in(settings), settings) as folder:
        assert folder.name == "1"
        assert folder != version_in(settings)
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(path.name for path in version_in(settings).iterdir())
    assert not folder.exists()


def test_live_opens_no_altered_version(settings: Settings) -> None:
    in_service = InService(settings, open_clock(), None)
    alter(settings)
    with pytest.raises(UntrustedModelError, match=r"normaliser\.safetensors is not the file"):
        in_service.bring([Watched(PLANT, version_in(settings))])
    assert in_service.models == {}


def test_promote_refuses_an_altered_version_and_the_journal_says_so(settings: Settings) -> None:
    alter(settings)
    with pytest.raises(UntrustedModelError, match="normaliser"):
        promote(settings, [PLANT], "1", who="anna", why="new")
    last = journal_of(settings, PLANT).entries()[-1]
    assert last.action is Action.REFUSED
    assert "normaliser.safetensors" in last.why


def test_a_wrong_setting_refuses_no_version(settings: Settings) -> None:
    missing = settings.model_copy(update={"model_trusted_keys_file": Path("gone.pub")})
    with pytest.raises(SettingsError, match=r"gone\.pub"):
        promote(missing, [PLANT], "1", who="anna", why="new")
    assert journal_of(settings, PLANT).state().challenger == "1"
    assert promote(settings, [PLANT], "1", who="anna", why="new").champion == "1"


def test_promote_takes_a_signed_one(settings: Settings) -> None:
    assert promote(settings, [PLANT], "1", who="anna", why="new").champion == "1"


def test_what_if_opens_no_altered_version(settings: Settings) -> None:
    alter(settings)
    with (
        pytest.raises(UntrustedModelError),
        open_what_if(PLANT, version_in(settings), settings),
    ):
        pytest.fail("it was opened")


def test_export_and_int8_of_a_signed_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model_signing_key_file", "model_trusted_keys_file", "data_dir"):
        monkeypatch.setenv(f"FUSION_{name.upper()}", str(getattr(settings, name)))
    asked = ["export", str(version_in(settings)), "--int8"]
    assert CliRunner().invoke(app, asked, catch_exceptions=False).exit_code == 0
    repository = settings.triton_repository_dir
    assert sorted(path.name for path in repository.iterdir()) == [
        "duo.1-int8.encoder",
        "duo.1-int8.predictor",
    ]
    # What was made of it is signed too, and the repository has no list of another folder.
    int8 = version_in(settings).with_name("1-int8")
    assert CliRunner().invoke(app, ["models", "verify", str(int8)]).exit_code == 0
    assert not list(repository.rglob("contents.*"))
    alter(settings)
    for wanted in (asked[:2], [*asked[:1], *asked[1:]]):
        with pytest.raises(UntrustedModelError):
            CliRunner().invoke(app, wanted, catch_exceptions=False)
    assert sorted(path.name for path in repository.iterdir())[0] == "duo.1-int8.encoder"


@pytest.mark.parametrize(
    ("name", "is_hashed"),
    [
        ("1/model.onnx", True),
        ("1/model.py", True),
        ("config.pbtxt", True),
        ("1/other.so", True),
        ("1/model.onnx", False),
        ("1/model.py", False),
    ],
    ids=lambda value: {True: "every file is hashed", False: "as before"}.get(value, value),
)
def test_a_changed_file_in_tritons_repository_is_noticed(
    settings: Settings, name: str, tmp_path: Path, *, is_hashed: bool
) -> None:
    repository = tmp_path / "repository"
    export_to_triton(version_in(settings), repository, backend="python", batching=Batching())
    network = repository / "duo.1.encoder"
    if not is_hashed:
        kept = json.loads((network / "serving.json").read_text())
        del kept["files"], kept["batching"]
        (network / "serving.json").write_text(json.dumps(kept))
        export_to_triton(version_in(settings), repository, backend="python", batching=Batching())
    changed = network / name
    changed.write_bytes((changed.read_bytes() if changed.exists() else b"") + b"#")
    with pytest.raises(InputError, match=f"{name} must be as it was exported"):
        export_to_triton(version_in(settings), repository, backend="python", batching=Batching())


def test_an_old_version_does_not_pass_for_a_new_one(settings: Settings) -> None:
    newer = version_in(settings).with_name("2")
    shutil.copytree(version_in(settings), newer)
    with (
        pytest.raises(UntrustedModelError, match="2 is signed as 1"),
        trusted_model(newer, settings),
    ):
        pytest.fail("it was opened")


def test_sign_needs_a_key_and_verify_says_what_differs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = str(version_in(settings))
    for command in ("sign", "verify"):
        with pytest.raises(SettingsError, match="is not set"):
            CliRunner().invoke(app, ["models", command, version], catch_exceptions=False)
    for name in ("model_signing_key_file", "model_trusted_keys_file"):
        monkeypatch.setenv(f"FUSION_{name.upper()}", str(getattr(settings, name)))
    (Path(version) / MANIFEST_FILE).write_bytes(
        (Path(version) / MANIFEST_FILE).read_bytes() + b"\n"
    )
    with pytest.raises(UntrustedModelError, match=r"manifest\.json is not the file"):
        CliRunner().invoke(app, ["models", "verify", version], catch_exceptions=False)
    assert CliRunner().invoke(app, ["models", "sign", version]).exit_code == 0
    assert CliRunner().invoke(app, ["models", "verify", version]).exit_code == 0


def test_a_key_is_never_overwritten_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    private, _, _ = make_key_pair(tmp_path / "plant")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="must be a new file"):
        make_key_pair(tmp_path / "plant")


def test_without_keys_any_model_is_opened_as_before(model_dir: Path, tmp_path: Path) -> None:
    with trusted_model(model_dir, Settings(data_dir=tmp_path)) as folder:
        assert folder == model_dir
