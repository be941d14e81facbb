"""What serves operators: the journal of alarms, notifications, who people are."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.alarm_history import SqlAlarmLog, postgresql_url, sqlite_url
from connectors.email_notifier import EmailNotifier, SmtpSettings
from connectors.oidc import OidcProvider
from connectors.webhook_notifier import WebhookNotifier
from flows.settings import Settings
from fusion.alarms.channels import Channel, WebhookChannel
from fusion.errors import SettingsError
from fusion.ports import AlarmLog, IdentityProvider, Notifier


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
