"""What a local Label Studio leaves in its data folder for others: its account, and where it runs."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from runtime.files import write_whole
from schemas.errors import BadInput

USER = "studio@localhost"


@dataclass(frozen=True)
class Account:
    """Who signs in. token: 40 hex digits; personal_token: made on the first call for it. Neither is ever shown."""

    user: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    personal_token: str | None = field(default=None, repr=False)


def account_path(data: Path) -> Path:
    """Where the account of a data folder lies."""
    return data / "account.json"


def account_in(data: Path) -> Account:
    """The account of a data folder, made up on the first call and kept in `account.json`, for its owner's eyes only.

    Raises: BadInput where the file is there and is none.
    """
    if not account_path(data).exists():
        write_account(Account(USER, secrets.token_urlsafe(12), secrets.token_hex(20)), data)
    return read_account(data)


def read_account(data: Path) -> Account:
    """The account of a data folder that a server ran in. Raises: BadInput where there is none."""
    path = account_path(data)
    try:
        account = Account(**json.loads(path.read_text()))
        if not all(isinstance(part, str) and part for part in (account.user, account.password, account.token)):
            raise ValueError("empty")
    except FileNotFoundError:
        raise BadInput(str(path), "is not there", "start the server: `make studio`") from None
    except (TypeError, ValueError):
        raise BadInput(str(path), "is no account", "bring it back from a copy, or give another --data") from None
    return account


def write_account(account: Account, data: Path) -> None:
    """Writes the account whole, readable by its owner alone from its first byte on."""
    write_whole(account_path(data), json.dumps(asdict(account)), mode=0o600)


@dataclass(frozen=True)
class LocalAddress:
    """Where the server of a data folder is, or last was."""

    url: str
    documents: str


def write_address(address: LocalAddress, data: Path) -> None:
    """Leaves the address in the data folder, for commands on this machine."""
    write_whole(data / "address.json", json.dumps(asdict(address)))


def local_address(data: Path) -> LocalAddress:
    """The address in a data folder. Raises: BadInput where no server ran there."""
    try:
        return LocalAddress(**json.loads((data / "address.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise BadInput(str(data), "is the data folder of no local Label Studio", "start one: `make studio`") from None
