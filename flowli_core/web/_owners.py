"""Ids of jobs that belong to an owner, such as a user.

The id ends with a digest of the owner. So nothing else is stored, and a job of another owner is recognised without
reading it. The beginning is ordered by time, as in other ids: it keeps the order of jobs that are due together.
"""

from base64 import urlsafe_b64encode
from hashlib import blake2b

import uuid_utils

from flowli_core.errors import DefinitionError

_DIGEST_BYTES = 12


def owned_id(owner: str) -> str:
    """Make an id for a job of an owner: `jobs.write_report.options(id=owned_id(user.id)).enqueue(...)`."""
    return f"{uuid_utils.uuid7()}.{_digest(owner)}"


def is_owned(id: str, owner: str) -> bool:
    """Return True if `owned_id` made this id for this owner."""
    return id.rpartition(".")[2] == _digest(owner)


def check_owner(owner: object) -> str:
    """Accept the name of an owner. An empty one is a mistake: users without a name would share their jobs."""
    if not isinstance(owner, str) or not owner:
        raise DefinitionError("owner must return a text that is not empty; refuse strangers with an HTTP error")
    return owner


def _digest(owner: str) -> str:
    return urlsafe_b64encode(blake2b(check_owner(owner).encode(), digest_size=_DIGEST_BYTES).digest()).decode()
