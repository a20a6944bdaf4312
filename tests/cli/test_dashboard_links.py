"""The links of `flowli dashboard`: each lets one browser in."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from flowli_core.cli._dashboard.links import LinkGate


class Gate:
    """A gate in front of a page, and the links that it has announced."""

    def __init__(self) -> None:
        self.links: list[str] = []
        self._app = LinkGate(PlainTextResponse("inside"), url="http://testserver", announce=self.links.append)

    def browser(self) -> TestClient:
        """Return a new browser, without cookies."""
        return TestClient(self._app)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_nobody_gets_in_without_a_link(gate: Gate) -> None:
    for path in ("/", "/jobs?state=failed", "/?token=", "/?token=wrong", "/?token=%C3%A9"):
        response = gate.browser().get(path)
        assert response.status_code == 403
        assert "Open the link" in response.text
        assert gate.browser().post(path).status_code == 403
    assert len(gate.links) == 1


def test_a_link_lets_one_browser_in_until_its_end(gate: Gate) -> None:
    browser = gate.browser()
    response = browser.get(gate.links[0])
    assert response.text == "inside"
    assert "token" not in str(response.url)
    assert browser.get(response.url.join("jobs")).text == "inside"
    assert browser.post(response.url.join("jobs")).text == "inside"


def test_a_used_link_is_replaced_by_another(gate: Gate) -> None:
    gate.browser().get(gate.links[0])
    assert gate.browser().get(gate.links[0]).status_code == 403
    assert len(gate.links) == 2
    assert gate.browser().get(gate.links[1]).text == "inside"


def test_a_link_is_used_by_a_get_request_only(gate: Gate) -> None:
    """Chats and mail programs request a link to see if it exists."""
    gate.browser().head(gate.links[0])
    gate.browser().post(gate.links[0])
    assert gate.browser().get(gate.links[0]).text == "inside"


def test_scripts_and_other_sites_do_not_get_the_cookie(gate: Gate) -> None:
    response = gate.browser().get(gate.links[0], follow_redirects=False)
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"


def test_servers_on_other_ports_of_the_host_do_not_get_the_cookie(gate: Gate) -> None:
    """Browsers send the cookies of a host to all its ports, if the path is the same."""
    browser = gate.browser()
    home = browser.get(gate.links[0]).url
    assert "cookie" in browser.get(home).request.headers
    for path in ("/", "/jobs", "//evil.example/"):
        response = browser.get(home.join(f"http://testserver:9999{path}"))
        assert "cookie" not in response.request.headers
        assert response.status_code == 403


def test_a_link_with_another_path_leads_to_the_dashboard(gate: Gate) -> None:
    token = gate.links[0].partition("?")[2]
    response = gate.browser().get(f"http://testserver//evil.example/?{token}", follow_redirects=False)
    assert response.status_code == 303
    assert gate.links[0].startswith(f"http://testserver{response.headers['location']}?")


def test_the_cookie_of_another_dashboard_on_the_host_lets_nobody_in(gate: Gate) -> None:
    other, browser = Gate(), gate.browser()
    browser.get(gate.links[0])
    stranger = other.browser()
    stranger.cookies.update(browser.cookies)
    assert stranger.get(other.links[0].partition("?")[0]).status_code == 403
