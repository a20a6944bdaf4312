"""Only those who may do so see pages and payloads, and only forms of the dashboard itself change anything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from starlette.exceptions import HTTPException

from flowli_core import DefinitionError, Jobs, StrategyError
from flowli_core.dashboard import Dashboard
from tests.dashboard.shop import ShopJobs
from tests.dashboard.visitor import HOST, Form, Visitor, visiting

if TYPE_CHECKING:
    from starlette.requests import Request

    from flowli_core.dashboard import Action

PAGES = ("/", "/jobs", "/job?id=failed", "/schedules", "/workers", "/events")
SECRETS = ("bounce@example.com", "the server refused", "connecting for")


async def state(jobs: Jobs[Any], record_id: str) -> str:
    """Return the state of a job."""
    record = await jobs.inspect.get_job(record_id)
    assert record is not None
    return record.state


def allowing(*actions: str) -> Any:
    """Return an authorize function that allows these actions."""

    async def authorize(request: Request, action: Action) -> bool:
        return action in actions

    return authorize


def test_a_dashboard_that_anybody_may_use_must_say_so(jobs: ShopJobs) -> None:
    with pytest.raises(DefinitionError, match="allow_anonymous=True"):
        Dashboard(jobs)


def test_a_dashboard_is_not_both_guarded_and_open(jobs: ShopJobs) -> None:
    with pytest.raises(DefinitionError, match="either"):
        Dashboard(jobs, authorize=allowing("view"), allow_anonymous=True)


def test_a_registry_without_a_driver_has_no_dashboard() -> None:
    with pytest.raises(StrategyError, match="no driver"):
        Dashboard(ShopJobs(context=None), allow_anonymous=True)


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_sees_no_page(busy: ShopJobs, path: str) -> None:
    async with visiting(busy, authorize=allowing("act", "payloads"), show_payloads=True) as visitor:
        page = await visitor.visit(path)
    assert page.status == 403
    assert "you may not see this page" in page.text
    assert "Overview" not in page.links


async def test_authorize_may_send_a_stranger_to_a_login(busy: ShopJobs) -> None:
    def authorize(request: Request, action: Action) -> bool:
        raise HTTPException(303, headers={"Location": "/login"})

    async with visiting(busy, authorize=authorize) as visitor:
        page = await visitor.visit("/")
    assert (page.status, page.address) == (303, "/login")


async def test_authorize_may_ask_for_a_password(busy: ShopJobs) -> None:
    def authorize(request: Request, action: Action) -> bool:
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})

    async with visiting(busy, authorize=authorize) as visitor:
        page = await visitor.visit("/")
    assert (page.status, page.headers["www-authenticate"]) == (401, "Basic")


async def test_rights_that_authorize_refuses_with_an_error_are_missing_on_pages(busy: ShopJobs) -> None:
    def authorize(request: Request, action: Action) -> bool:
        if action != "view":
            raise HTTPException(403, "only for operators")
        return True

    async with visiting(busy, authorize=authorize, show_payloads=True) as visitor:
        page = await visitor.visit("/job", id="failed")
    assert page.status == 200
    assert "Hidden." in page.text
    assert [form.label for form in page.forms] == ["Theme: auto"]


async def test_an_answer_of_authorize_that_is_neither_a_bool_nor_a_name_allows_nothing(busy: ShopJobs) -> None:
    def authorize(request: Request, action: Action) -> Any:
        return object()

    async with visiting(busy, authorize=authorize) as visitor:
        with pytest.raises(DefinitionError, match="must return True, False or a name"):
            await visitor.visit("/")


@pytest.mark.parametrize(
    "options",
    [
        {"allow_anonymous": True, "show_payloads": False},
        {"authorize": allowing("view", "act"), "show_payloads": True},
        {"authorize": allowing("view", "payloads", "act")},
    ],
    ids=["not shown", "not authorized", "authorized but not shown"],
)
async def test_payloads_errors_and_logs_are_hidden_unless_shown_and_authorized(
    busy: ShopJobs, options: dict[str, Any]
) -> None:
    async with visiting(busy, **options) as visitor:
        pages = [
            await visitor.visit(path)
            for path in ("/", "/jobs?state=failed", "/job?id=failed", "/job?id=completed", "/schedules")
        ]
    assert "Hidden." in pages[2].text
    assert "ConnectionError" in pages[2].text
    for page in pages:
        assert page.status == 200
        for secret in (*SECRETS, "ada@example.com", "digest@example.com", "Traceback"):
            assert secret not in page.source


@pytest.mark.parametrize(
    "options",
    [{"allow_anonymous": True, "read_only": True}, {"authorize": allowing("view", "payloads")}],
    ids=["read only", "not authorized"],
)
async def test_who_may_not_act_sees_no_button_and_changes_nothing(busy: ShopJobs, options: dict[str, Any]) -> None:
    async with visiting(busy) as other:
        form = (await other.visit("/job", id="failed")).form("Requeue")
    async with visiting(busy, **options) as visitor:
        page = await visitor.visit("/job", id="failed")
        assert [form.label for form in page.forms] == ["Theme: auto"]
        answer = await visitor.submit(form, csrf=page.forms[0].fields["csrf"])
    assert answer.status == 403
    assert await state(busy, "failed") == "failed"


@pytest.mark.parametrize(
    ("headers", "is_accepted"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example"}, True),
        ({"origin": HOST}, True),
        ({"sec-fetch-site": "cross-site", "origin": HOST}, False),
        ({"sec-fetch-site": "same-site", "origin": HOST}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://["}, False),
        ({}, False),
    ],
)
async def test_a_form_of_another_site_changes_nothing(
    busy: ShopJobs, visitor: Visitor, headers: dict[str, str], *, is_accepted: bool
) -> None:
    form = (await visitor.visit("/job", id="failed")).form("Requeue")
    answer = await visitor.submit(form, headers=headers)
    assert answer.status == (303 if is_accepted else 403)
    assert await state(busy, "failed") == ("queued" if is_accepted else "failed")


async def test_a_cookie_that_is_no_token_is_replaced_and_not_shown(busy: ShopJobs) -> None:
    forged = "'><h1>forged</h1>".ljust(43, "x")
    async with visiting(busy) as visitor:
        visitor.client.headers["cookie"] = f"flowli_csrf={forged}"
        for path in PAGES[:-1]:
            page = await visitor.visit(path)
            assert "forged" not in page.source
            assert "flowli_csrf=" in page.headers["set-cookie"]
        form = (await visitor.visit("/job", id="failed")).form("Requeue")
        assert (await visitor.submit(form, csrf=forged)).status == 403


@pytest.mark.parametrize("token", ["", "x" * 43, "é"])
async def test_a_form_without_the_token_of_its_cookie_changes_nothing(
    busy: ShopJobs, visitor: Visitor, token: str
) -> None:
    form = (await visitor.visit("/job", id="failed")).form("Requeue")
    assert (await visitor.submit(form, csrf=token)).status == 403
    visitor.client.cookies.clear()
    assert (await visitor.submit(form)).status == 403
    assert await state(busy, "failed") == "failed"


@pytest.mark.parametrize(("scheme", "is_secure"), [("http", False), ("https", True)])
async def test_the_token_is_in_a_cookie_that_neither_scripts_nor_other_sites_can_use(
    visitor: Visitor, scheme: str, *, is_secure: bool
) -> None:
    cookie = (await visitor.client.get(f"{scheme}://jobs.example/admin/jobs/")).headers["set-cookie"].lower()
    assert cookie.startswith("flowli_csrf=")
    assert "; path=/admin/jobs/;" in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert ("secure" in cookie) == is_secure


async def test_another_process_accepts_the_forms_of_a_page(busy: ShopJobs, visitor: Visitor) -> None:
    form = (await visitor.visit("/job", id="failed")).form("Requeue")
    async with visiting(busy) as other:
        other.client.cookies = visitor.client.cookies
        assert (await other.submit(form)).status == 303
    assert await state(busy, "failed") == "queued"


async def test_an_action_needs_a_form(visitor: Visitor) -> None:
    headers = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
    answer = await visitor.client.post("/admin/jobs/actions/cancel", content=b"{}", headers=headers)
    assert answer.status_code == 415
    headers["content-type"] = "application/x-www-form-urlencoded"
    assert (
        await visitor.client.post("/admin/jobs/actions/cancel", content=b"x" * 70_000, headers=headers)
    ).status_code == 413
    assert (
        await visitor.client.post("/admin/jobs/actions/cancel", content=b"a=%ff", headers=headers)
    ).status_code == 400
    assert (await visitor.client.get("/admin/jobs/actions/cancel")).status_code == 405


async def test_a_redirect_after_an_action_stays_within_the_dashboard(visitor: Visitor) -> None:
    form = (await visitor.visit("/job", id="failed")).form("Requeue")
    for back in ("https://evil.example/", "//evil.example", "/../..", "/job\r\nX: y"):
        answer = await visitor.submit(form, back=back)
        assert answer.address.startswith("/admin/jobs/?notice="), back


async def test_a_redirect_never_goes_to_the_host_that_a_client_names(visitor: Visitor) -> None:
    for path in ("/", "/jobs/", "/workers/", "/static", "/static/"):
        response = await visitor.client.get(f"/admin/jobs{path}", headers={"host": "evil.example"})
        assert "evil.example" not in response.headers.get("location", ""), path
        assert "evil.example" not in response.text, path


async def test_names_and_ids_cannot_fake_a_line_of_the_log(busy: ShopJobs, caplog: pytest.LogCaptureFixture) -> None:
    def authorize(request: Request, action: Action) -> str:
        return "eve\nERROR ada"

    async with visiting(busy, authorize=authorize) as visitor:
        form = (await visitor.visit("/job", id="failed")).form("Requeue")
        await visitor.submit(form, target="x\nERROR y")
    assert "eve" in caplog.text
    assert "\nERROR" not in caplog.text


async def test_an_action_is_logged_with_who_did_what(busy: ShopJobs, caplog: pytest.LogCaptureFixture) -> None:
    def authorize(request: Request, action: Action) -> str:
        return "ada"

    caplog.set_level(logging.INFO, "flowli")
    async with visiting(busy, authorize=authorize) as visitor:
        await visitor.press(await visitor.visit("/job", id="failed"), "Requeue")
    assert "dashboard: ada asked to requeue failed: requeued" in caplog.messages


@pytest.mark.parametrize("path", [*PAGES[:-1], "/lost", "/static/style.css"])
async def test_every_response_has_the_headers_of_a_safe_page(visitor: Visitor, path: str) -> None:
    headers = (await visitor.client.get(f"/admin/jobs{path}")).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


@pytest.mark.parametrize("path", PAGES[:-1])
async def test_pages_have_no_inline_script_or_style(visitor: Visitor, path: str) -> None:
    source = (await visitor.visit(path)).source
    assert "<style" not in source
    assert " style=" not in source
    assert " onclick" not in source
    assert source.count("<script") == source.count('<script src="/admin/jobs/static/')


async def test_the_theme_is_kept_in_a_cookie(visitor: Visitor) -> None:
    page = await visitor.press(await visitor.visit("/workers"), "Theme: auto")
    assert '<html lang="en" data-theme="light">' in page.source
    page = await visitor.press(page, "Theme: light")
    assert '<html lang="en" data-theme="dark">' in page.source
    unknown = await visitor.submit(Form("/admin/jobs/theme", "post", page.forms[0].fields), theme="pink")
    assert "data-theme" not in unknown.headers.get("set-cookie", "")
