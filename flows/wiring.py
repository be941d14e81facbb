"""The only place that chooses and builds connectors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from connectors import embedded_broker, kafka_io
from connectors.alarm_history import SqlAlarmLog, postgresql_url, sqlite_url
from connectors.delta_findings import DeltaFindings
from connectors.delta_lake import DeltaLake, DeltaUpkeep, table_files
from connectors.email_notifier import EmailNotifier, SmtpSettings
from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from connectors.kafka_io import (
    KafkaPublisher,
    KafkaSettings,
    KafkaSource,
    Membership,
    present_topics,
    require_access,
)
from connectors.local_inference import OnnxInference
from connectors.object_store import LocalObjectStore, S3ObjectStore, S3Settings
from connectors.oidc import OidcProvider
from connectors.onnx_quantisation import quantise
from connectors.system_clock import SystemClock
from connectors.triton_io import (
    PYTHON_MODEL,
    Asking,
    Backend,
    Batching,
    ClientTls,
    ServerTls,
    TritonAccess,
    TritonInference,
    TritonServer,
    model_config,
    ready_models,
    unload_models,
)
from connectors.webhook_notifier import WebhookNotifier
from flows.carrier import BackgroundCarrier
from flows.settings import Settings, read_setting
from flows.spool_files import lock_spool, spool_file
from fusion.alarms.channels import Channel, WebhookChannel
from fusion.errors import SettingsError
from fusion.plant import Grant, Plant, TopicPlan, TopicSpec, topics_of
from fusion.ports import (
    AlarmLog,
    Archive,
    Clock,
    FindingTable,
    IdentityProvider,
    Inference,
    Lake,
    Notifier,
    Publisher,
    Source,
    Tracking,
)
from fusion.schema import MAX_CLAIMED_BYTES, Record
from fusion.stream.claim_resolver import ClaimResolver
from fusion.stream.claims import CLAIM_THRESHOLD_BYTES, ClaimCheckPublisher
from fusion.stream.reading import read_to_end
from fusion.stream.spool import SpoolingPublisher
from fusion.stream.spool_log import SPOOL_GROUP, SPOOL_TOPIC
from fusion.upkeep import LakeUpkeep

__all__ = [
    "PYTHON_MODEL",
    "Backend",
    "Batching",
    "TritonServer",
    "model_config",
    "quantise",
    "table_files",
]


def open_clock() -> Clock:
    """Return the machine's clock."""
    return SystemClock()


def open_source(settings: Settings, topics: Sequence[str], group: str) -> Source:
    """Return a reader of ``topics`` that starts where ``group`` has committed, else at first."""
    if settings.broker == "kafka":
        return KafkaSource(_kafka(settings), topics=topics, group=group)
    return EmbeddedSource(_embedded(settings), topics=topics, group=group)


def open_member(settings: Settings, topics: Sequence[str], group: str) -> Source:
    """Return a reader of this process's share of ``topics``: whole partition numbers.

    On the embedded broker that is everything: one machine has one reader of a group.
    """
    if settings.broker == "kafka":
        membership = Membership(settings.replica or None, settings.session_timeout_s)
        return KafkaSource(_kafka(settings), topics, group, membership)
    return EmbeddedSource(_embedded(settings), topics=topics, group=group)


def open_publisher(
    settings: Settings, *, group: str | None = None, writer: str = "fusion"
) -> Publisher:
    """Return a writer; with ``group`` its messages and that group's offsets are one transaction.

    ``writer`` names the one process that may write so: opening a second one shuts out the first.
    """
    if settings.broker == "kafka":
        transactional_id = None if group is None else f"{writer}-{group}"
        return KafkaPublisher(_kafka(settings), group=group, transactional_id=transactional_id)
    return EmbeddedPublisher(_embedded(settings), group=group)


def open_sender(
    settings: Settings,
    plant: Plant,
    *,
    source: str,
    threshold_bytes: int = CLAIM_THRESHOLD_BYTES,
) -> Publisher:
    """Return a writer for what ``source`` says of ``plant``, whose topics it creates.

    For Kafka it is a :class:`SpoolingPublisher`; the embedded broker is as near as its spool.
    Values above ``threshold_bytes`` go to the object store.
    """
    if settings.broker == "kafka":
        name = f"{plant.prefix}-{source}"
        return open_spool(settings, name, plant, threshold_bytes=threshold_bytes)
    prepare_topics(settings, plant)
    return _claiming(settings, threshold_bytes)


def open_spool(
    settings: Settings,
    name: str,
    plant: Plant | None = None,
    *,
    threshold_bytes: int = CLAIM_THRESHOLD_BYTES,
) -> SpoolingPublisher:
    """Return the sender ``name``, with what waits for the broker since its last run.

    Large values wait whole, and are stored when their turn comes: an object whose reference still
    waited could be taken for one that nobody refers to.

    Raises:
        InputError: Another process has it open.
        BrokerUnavailableError: The disk is full, or cannot be written.
    """

    def open_remote() -> Publisher:
        if plant is not None:
            prepare_topics(settings, plant)
        return _claiming(settings, threshold_bytes)

    with contextlib.ExitStack() as until_open:
        lock = until_open.enter_context(lock_spool(settings, name))
        broker = _spool_log(settings, name)
        sender = SpoolingPublisher(
            BackgroundCarrier(open_remote),
            local=EmbeddedPublisher(broker, group=SPOOL_GROUP),
            local_source=EmbeddedSource(broker, [SPOOL_TOPIC], SPOOL_GROUP),
            trim=broker.delete_before,
            max_bytes=settings.spool_max_mb * 1_000_000,
            max_record_bytes=MAX_CLAIMED_BYTES,
            clock=open_clock(),
            on_close=lock.close,
        )
        until_open.pop_all()
    return sender


def open_spool_source(settings: Settings, name: str) -> Source:
    """Return a reader of what waits in the spool ``name``, also while its sender runs."""
    return EmbeddedSource(_spool_log(settings, name), [SPOOL_TOPIC], SPOOL_GROUP)


def open_archive(settings: Settings, where: str) -> Archive:
    """Return the store of backups at ``where``: a folder, or s3://bucket/prefix.

    A bucket is reached with the keys of the object store (FUSION_OBJECTS_...).

    Raises:
        SettingsError: ``where`` is neither, or not there, or a key is absent.
    """
    if "://" not in where and not Path(where).is_dir():
        raise SettingsError(
            f"the folder of the backups must be there already, and {where} is not: mount its disk, "
            "or make it"
        )
    return open_objects(settings.model_copy(update={"objects": where}))


def open_objects(settings: Settings) -> LocalObjectStore | S3ObjectStore:
    """Return the store of large records. Nothing is connected or created yet.

    Raises:
        SettingsError: FUSION_OBJECTS is no folder and no s3://bucket/prefix, or a key is absent.
    """
    uri = settings.objects_uri
    if "://" not in uri:
        return LocalObjectStore(Path(uri))
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", uri)
    if found is None:
        raise SettingsError(
            f"FUSION_OBJECTS must be a folder or s3://bucket/prefix, got {uri!r}; mend it"
        )
    access_key, secret_key = settings.objects_access_key, settings.objects_secret
    if not access_key or not secret_key:
        raise SettingsError(
            f"{uri} needs FUSION_OBJECTS_ACCESS_KEY and FUSION_OBJECTS_SECRET_KEY (or ..._FILE), "
            "and one is absent; set both"
        )
    authority = settings.objects_ca_file
    return S3ObjectStore(
        S3Settings(
            bucket=found[1],
            prefix=found[2] or "",
            endpoint=settings.objects_endpoint,
            region=settings.objects_region,
            access_key=access_key,
            secret_key=secret_key,
            ca_certificate=None
            if authority is None
            else read_setting("FUSION_OBJECTS_CA_FILE", authority).encode(),
        )
    )


def open_resolver(
    settings: Settings, plant: Plant, *, wait: Callable[[float], None] | None = None
) -> ClaimResolver:
    """Return what fetches large records for a live process, waiting with ``wait`` (seconds)."""
    return ClaimResolver(open_objects(settings), prefix=plant.prefix, clock=open_clock(), wait=wait)


def open_stored_resolver(settings: Settings, plant: Plant) -> ClaimResolver:
    """Return what fetches large records for stored work: it waits for nothing.

    What is missing now stays so; when the store is away, the work as a whole fails, to be repeated.
    """
    return ClaimResolver(
        open_objects(settings),
        prefix=plant.prefix,
        clock=open_clock(),
        patience_s=None,
        missing_pauses_s=(),
    )


def open_alarm_log(settings: Settings) -> AlarmLog:
    """Return what keeps the journal of the alarms for years.

    Raises:
        SettingsError: FUSION_ALARM_HISTORY_URL is no address of PostgreSQL.
    """
    if settings.alarm_history_url is not None:
        return SqlAlarmLog(postgresql_url(settings.alarm_history_url.get_secret_value()))
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return SqlAlarmLog(sqlite_url(settings.alarm_history_path))


def open_notifiers(
    channels: Mapping[str, Channel], variables: Mapping[str, str]
) -> dict[str, Notifier]:
    """Return a notifier for each channel; ``variables`` hold the secrets.

    Raises:
        SettingsError: A variable is not set, or its value is of no use. It is not shown.
    """

    def secret(name: str | None) -> str | None:
        if name is None or variables.get(name):
            return None if name is None else variables[name]
        raise SettingsError(
            f"the variable {name} must be set: the file of notifications names it; set it where "
            "this process starts"
        )

    def opened(channel: Channel) -> Notifier:
        if isinstance(channel, WebhookChannel):
            return WebhookNotifier(
                secret(channel.url_from) or "", secret=secret(channel.secret_from)
            )
        return EmailNotifier(
            SmtpSettings(
                host=channel.host,
                port=channel.port,
                sender=channel.sender,
                recipients=channel.recipients,
                security=channel.security,
                username=channel.username,
                password=secret(channel.password_from),
            )
        )

    return {name: opened(channel) for name, channel in channels.items()}


def open_identity_provider(settings: Settings) -> IdentityProvider | None:
    """Return what says who people are, beside the console's own passwords; None: nothing does."""
    if not settings.console_oidc_issuer:
        return None
    return OidcProvider(
        settings.console_oidc_issuer,
        client_id=settings.console_oidc_client_id,
        client_secret=settings.console_oidc_secret,
        ca_file=settings.console_oidc_ca_file,
    )


def open_lake(settings: Settings) -> Lake:
    """Return the lake of raw records."""
    return DeltaLake(settings.lake_uri)


def open_findings(settings: Settings, plant: Plant) -> FindingTable:
    """Return the table of what backfills found."""
    return DeltaFindings(settings.findings_uri(plant.prefix))


def open_lake_upkeep(settings: Settings) -> LakeUpkeep:
    """Return what looks after the lake."""
    return DeltaUpkeep(settings.lake_uri)


def open_inference(model_dir: Path) -> Inference:
    """Return the networks of the model version in ``model_dir``, run in this process."""
    return OnnxInference(model_dir)


def open_triton_inference(
    settings: Settings, names: Mapping[str, str], *, deadline_s: float | None = None
) -> Inference:
    """Return the networks called ``names`` in Triton's repository. Nothing is asked yet.

    Raises:
        SettingsError: A file of TLS cannot be read.
    """
    asking = Asking(deadline_s or settings.triton_deadline_s, settings.triton_shared_memory)
    return TritonInference(_triton(settings), names, asking)


def unload_from_triton(settings: Settings, names: Iterable[str]) -> None:
    """Free what the server holds of the networks called ``names``, if it holds them.

    Raises:
        InferenceUnavailableError: The server is away.
    """
    unload_models(_triton(settings), names)


def triton_server(
    settings: Settings,
    *,
    metrics_port: int = 8002,
    cert: Path | None = None,
    key: Path | None = None,
    client_ca: Path | None = None,
) -> TritonServer:
    """Return the server of this machine, running or not. With ``cert`` it speaks mutual TLS only.

    Raises:
        SettingsError: Only some of the files of TLS are given.
    """
    access = _triton(settings)
    host, _, port = access.address.rpartition(":")
    return TritonServer(
        home=settings.triton_home,
        repository=settings.triton_repository_dir,
        run_dir=settings.data_dir / "triton-server",
        grpc_port=int(port),
        metrics_port=metrics_port,
        host=host,
        tls=_server_tls(access, cert, key, client_ca),
        client_tls=access.tls,
    )


def _server_tls(
    access: TritonAccess, cert: Path | None, key: Path | None, client_ca: Path | None
) -> ServerTls | None:
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None or client_ca is None or access.tls is None:
        raise SettingsError(
            "mutual TLS needs --cert, --key and --client-ca, and FUSION_TRITON_CA_FILE, "
            "..._CERT_FILE and ..._KEY_FILE to ask the server whether it is ready; give all"
        )
    return ServerTls(cert, key, client_ca)


def _triton(settings: Settings) -> TritonAccess:
    ca, cert, key = settings.triton_ca_file, settings.triton_cert_file, settings.triton_key_file
    tls = ClientTls(ca, cert, key) if ca and cert and key else None
    return TritonAccess(settings.triton_address, tls)


def open_tracking(settings: Settings) -> Tracking | None:
    """Return what keeps training runs; None where the settings say that nothing does.

    Raises:
        TrackingUnavailableError: It cannot be reached.
    """
    uri = settings.tracking_uri
    if uri is None:
        return None
    from connectors.mlflow_tracking import MlflowTracking  # noqa: PLC0415 importing takes seconds

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return MlflowTracking(uri, artifacts=settings.data_dir / "mlflow-artifacts")


def prepare_topics(settings: Settings, plant: Plant, *, update_configs: bool = False) -> TopicPlan:
    """Create the topics of ``plant`` that do not exist yet, and return what was done.

    With ``update_configs`` the retention of those that exist is altered where it differs.

    Raises:
        TopicMismatchError: Topics that exist are not as the plant describes them.
    """
    return create_topics(settings, topics_of(plant), update_configs=update_configs)


def create_topics(
    settings: Settings, specs: Mapping[str, TopicSpec], *, update_configs: bool = False
) -> TopicPlan:
    """Create the topics of ``specs`` that do not exist yet, and return what was done.

    Raises:
        TopicMismatchError: Topics that exist are not so.
    """
    if settings.broker == "kafka":
        return kafka_io.apply_topics(_kafka(settings), specs, update_configs=update_configs)
    return embedded_broker.apply_topics(_embedded(settings), specs, update_configs=update_configs)


def topic_copies(settings: Settings, topics: Collection[str]) -> dict[str, kafka_io.Copies]:
    """Return how often Kafka stores those of ``topics`` that exist; nothing on the other broker."""
    return kafka_io.copies_of(_kafka(settings), topics) if settings.broker == "kafka" else {}


def triton_models(settings: Settings, names: Iterable[str]) -> dict[str, bool]:
    """Return, of each of the networks called ``names``, whether Triton has it loaded.

    Raises:
        InferenceUnavailableError: The server does not answer.
        SettingsError: A file of TLS cannot be read.
    """
    return ready_models(_triton(settings), names)


def found_topics(settings: Settings, plant: Plant) -> dict[str, TopicSpec]:
    """Return what those topics of ``plant`` that exist are."""
    topics = topics_of(plant)
    if settings.broker == "kafka":
        return kafka_io.describe_topics(_kafka(settings), topics)
    return embedded_broker.describe_topics(_embedded(settings), topics)


def found_grants(settings: Settings, principals: Collection[str]) -> set[Grant]:
    """Return what the brokers allow ``principals``.

    Raises:
        SettingsError: The broker is not Kafka, or has no authorizer.
    """
    return kafka_io.found_grants(_kafka_only(settings), principals)


def apply_grants(
    settings: Settings, wanted: Collection[Grant], *, prune: bool
) -> tuple[list[Grant], list[Grant]]:
    """Allow what is missing of ``wanted``; return it, and what its users may do beside it.

    Raises:
        SettingsError: The broker is not Kafka, or has no authorizer, or refuses.
    """
    return kafka_io.apply_grants(_kafka_only(settings), wanted, prune=prune)


def key_partitions(settings: Settings, plant: Plant) -> Callable[[str], int]:
    """Return what tells the partition number that the broker's own clients choose for a key."""
    broker = kafka_io if settings.broker == "kafka" else embedded_broker
    return lambda key: broker.partition_of(key, plant.topics.partitions)


def topic_ids(settings: Settings, topics: Collection[str]) -> dict[str, str]:
    """Return the broker's own name of each of ``topics``: a topic that is made anew has another.

    None on the embedded broker: nothing deletes a single topic of its file.
    """
    return kafka_io.topic_ids(_kafka(settings), topics) if settings.broker == "kafka" else {}


def _claiming(settings: Settings, threshold_bytes: int) -> Publisher:
    return ClaimCheckPublisher(
        open_publisher(settings),
        open_objects(settings),
        clock=open_clock(),
        threshold_bytes=threshold_bytes,
    )


def topics_there(settings: Settings, topics: Iterable[str]) -> tuple[str, ...]:
    """Return those of ``topics`` that the broker has."""
    if settings.broker == "kafka":
        there = present_topics(_kafka(settings))
    elif not settings.broker_path.exists():
        return ()  # (opening it would create it)
    else:
        there = _embedded(settings).topics()
    return tuple(topic for topic in topics if topic in there)


def read_topic(settings: Settings, plant: Plant, kind: str) -> Iterator[Record]:
    """Yield what the plant's topic of ``kind`` holds now; nothing, and creates none, without it.

    Raises:
        BrokerUnavailableError: The broker is away.
    """
    there = topics_there(settings, [plant.topic(kind)])
    if not there:
        return
    with contextlib.closing(open_source(settings, there, f"reads-{plant.prefix}")) as source:
        yield from read_to_end(source)


def _kafka_only(settings: Settings) -> KafkaSettings:
    if settings.broker != "kafka":
        raise SettingsError(
            "the embedded broker has no users, whoever may read its file may do everything; set "
            "FUSION_BROKER=kafka"
        )
    return _kafka(settings)


def _kafka(settings: Settings) -> KafkaSettings:
    reached = KafkaSettings(
        bootstrap_servers=settings.kafka_bootstrap,
        security=settings.kafka_security,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.read_kafka_password(),
        replication=settings.kafka_replication,
    )
    # The client itself would try for half a minute, and then not know why.
    require_access(reached)
    return reached


def _spool_log(settings: Settings, name: str) -> EmbeddedBroker:
    # What waits must survive a power cut: nobody else has it.
    broker = EmbeddedBroker(spool_file(settings, name), is_power_safe=True)
    broker.create_topic(SPOOL_TOPIC)
    return broker


def _embedded(settings: Settings) -> EmbeddedBroker:
    settings.broker_path.parent.mkdir(parents=True, exist_ok=True)
    return EmbeddedBroker(settings.broker_path)
