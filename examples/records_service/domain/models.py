"""The bodies of requests and responses."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Currency = Literal[
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "EUR", "GBP", "ILS",
    "INR", "JPY", "KRW", "MXN", "NGN", "PLN", "SEK", "TRY", "USD", "ZAR",
]  # fmt: skip

_WITHOUT_CENTS = frozenset({"JPY", "KRW"})
_FIRST_DAY = date(2000, 1, 1)
_AHEAD = timedelta(days=366)


def _in_business(day: date) -> date:
    last = datetime.now(UTC).date() + _AHEAD
    if not _FIRST_DAY <= day <= last:
        raise ValueError(f"must be from {_FIRST_DAY} to {last}")
    return day


class NewRecord(BaseModel):
    """A payment, as a client sends it. `reference` is the client's own identifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: Annotated[str, Field(pattern=r"^[A-Z]{3}-[0-9]{4}-[0-9]{4}$")]
    name: Annotated[str, Field(max_length=120, pattern=r"\S")]
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]{1,64}@([a-z0-9-]+\.)+[a-z]{2,}$")]
    currency: Currency
    amount: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=2)]
    booked_on: Annotated[date, AfterValidator(_in_business)]
    note: Annotated[str, Field(max_length=500)] = ""

    @field_validator("amount")
    @classmethod
    def _is_payable(cls, amount: Decimal, info: ValidationInfo) -> Decimal:
        if info.data.get("currency") in _WITHOUT_CENTS and amount % 1:
            raise ValueError(f"{info.data['currency']} has no cents")
        return amount


class Record(NewRecord):
    """A record as it is stored."""

    id: str
    created_at: datetime


class AuditLine(BaseModel):
    """An action on a record, and the request that caused it."""

    action: str
    request_id: str | None


class RecordDetails(Record):
    """A record, with the work that jobs have done for it so far.

    `deliveries` are the ids of the messages sent, `follow_ups` the results of the follow-up checks, and `refunds` the
    ids of the refunds.
    """

    audit: list[AuditLine]
    deliveries: list[str]
    follow_ups: list[str]
    refunds: list[str]


class JobIds(BaseModel):
    """The ids of the jobs that a new record enqueues; see `GET /jobs/{id}`."""

    notification: str
    follow_up: str


class Created(BaseModel):
    """The response of `POST /records`."""

    record: Record
    jobs: JobIds
