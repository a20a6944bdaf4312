"""The names of jobs and queues, ids and keys that are accepted, and those that are refused."""

import pytest

from flowli_core import Jobs, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver


async def do_nothing() -> None: ...


@pytest.mark.parametrize("name", ["a", "_", "9", "send_email", "mail/send:v2.1-beta", "été", "名", "n" * 128])
async def test_names_and_queues_may_have_letters_digits_and_a_few_signs(name: str) -> None:
    class AppJobs(Jobs[None]):
        named = job(name=name, queue=name, tags=[name])(do_nothing)

    jobs = AppJobs(context=None, driver=MemoryDriver())
    receipt = await jobs.named.enqueue()
    assert receipt.name == name
    assert list((await jobs.inspect.get_queue_counts()).by_queue) == [name]


@pytest.mark.parametrize(
    "name", ["", " ", "a b", ".a", "-a", "/a", ":a", "a\n", "a\0", "a{b}", "a*", "a?", "é\u200b", "\ud800"]
)
def test_other_names_are_refused(name: str) -> None:
    class AppJobs(Jobs[None]):
        named = job(name="named")(do_nothing)

    with pytest.raises(ValidationError, match="queue"):
        AppJobs(context=None).named.options(queue=name)


class AppJobs(Jobs[None]):
    named = job(name="named")(do_nothing)
    other = job(name="other")(do_nothing)


@pytest.mark.parametrize("record_id", ["1", "order-7:refund/2", "!~", "i" * 128])
async def test_ids_may_have_printable_ascii_without_spaces(record_id: str) -> None:
    jobs = AppJobs(context=None, driver=MemoryDriver())
    assert (await jobs.named.options(id=record_id).enqueue()).id == record_id
    assert (await jobs.inspect.get_job(record_id)) is not None
    assert await jobs.control.cancel(record_id) == "cancelled"


@pytest.mark.parametrize("key", ["welcome:42", "été à Paris", "{*}", "k" * 256])
async def test_keys_may_be_any_printable_text_and_belong_to_their_job(key: str) -> None:
    jobs = AppJobs(context=None, driver=MemoryDriver())
    first = await jobs.named.options(key=key).enqueue()
    assert (await jobs.named.options(key=key).enqueue()).id == first.id
    assert (await jobs.other.options(key=key).enqueue()).disposition == "accepted"
    found = await jobs.inspect.get_job(first.id)
    assert found is not None
    assert found.key == key
