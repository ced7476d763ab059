"""What the process of a local Label Studio has in its environment: its settings, and nothing that it misreads."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from annotation.studio.account import Account
from schemas.errors import BadInput

#: What Label Studio gets of this process's environment: it reads names as plain as HOST, PORT, USERNAME and DEBUG.
KEPT_NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
KEPT_PREFIXES = ("AWS_",)
#: Nothing is reported to anybody, and no version is asked for.
SILENT = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


def studio_environment(
    data: Path, port: int, account: Account, documents: Path, database: str | None = None
) -> dict[str, str]:
    """The environment of Label Studio's process: data in `data`, loopback only, closed sign-up, no telemetry.

    Raises: BadInput where `database` is no postgresql:// address.
    """
    own = {name: value for name, value in os.environ.items() if name in KEPT_NAMES or name.startswith(KEPT_PREFIXES)}
    return own | SILENT | _database(database) | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_PORT": str(port),
        "LABEL_STUDIO_USERNAME": account.user,
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.token,
        # Read when the organisation is made, so it must be there from the first start on.
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(documents),
        # `regionwise collect` listens for web hooks on this machine.
        "SSRF_PROTECTION_ENABLED": "false",
    }  # fmt: skip


def _database(address: str | None) -> dict[str, str]:
    """Label Studio's settings of a database, SQLite without an address."""
    if address is None:
        return {"LABEL_STUDIO_DJANGO_DB": "sqlite"}
    try:
        parts = urlsplit(address)
        port = parts.port or 5432
    except ValueError:
        parts, port = urlsplit(""), 0
    name = parts.path.removeprefix("/")
    if parts.scheme != "postgresql" or not (parts.hostname and parts.username and name):
        raise BadInput("database", "is no PostgreSQL address", "give postgresql://USER:PASSWORD@HOST:PORT/NAME")
    return {
        "LABEL_STUDIO_DJANGO_DB": "default",
        "LABEL_STUDIO_POSTGRE_USER": unquote(parts.username),
        "LABEL_STUDIO_POSTGRE_PASSWORD": unquote(parts.password or ""),
        "LABEL_STUDIO_POSTGRE_NAME": unquote(name),
        "LABEL_STUDIO_POSTGRE_HOST": parts.hostname,
        "LABEL_STUDIO_POSTGRE_PORT": str(port),
    }
