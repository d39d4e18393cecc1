"""The page of the admin port in a browser."""

import contextlib
import os
import tempfile

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from support import net, process
from support.process import wait_until

from test_metrics import open_services

SWITCHES = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --disable-dev-shm-usage").split()


@pytest.fixture
def browser():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for switch in (*SWITCHES, "--disable-breakpad", f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        made = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        made.set_page_load_timeout(30)
        yield made
        made.quit()


class Page:
    """What is seen of it."""

    def __init__(self, browser, address, width=1100):
        self.browser = browser
        browser.set_window_size(width, 900)
        browser.get(f"http://{address}/")
        wait_until(lambda: self.rows(), 20, "the services on the page")

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def rows(self):
        """Lists of the texts of the cells, one of each service."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#services tr:not(.detail)')].map(r => [...r.cells].map(c => c.textContent))")

    def row(self, name):
        return next(row for row in self.rows() if row[0] == name)

    def complaints(self):
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def place():
    host = net.loopback()
    return f"{host}:{net.free_ports(host, 1)[0]}"


def preload(names, place, more=""):
    return "[services]\n" + "".join(f"preload={name}\n" for name in names) + f"[admin]\nlisten={place}\n{more}"


def test_services_and_their_changes_show_without_a_reload(daemon, tree, browser, place):
    tree.put("config/billing/db/url", "postgres://secret")
    daemon(source=tree.source, config=preload(["billing", "web"], place))
    page = Page(browser, place)
    wait_until(lambda: page.row("billing")[1:4:2] == ["live", "1"], 10, "billing with its key")
    tree.put("config/billing/db/pool", "7")
    wait_until(lambda: page.row("billing")[3] == "2", 10, "the second key")
    assert "secret" not in browser.page_source
    assert page.complaints() == []


def test_problems_come_first_and_say_what_is_wrong(daemon, tree, browser, place):
    tree.put("config/aaa/k", "1")
    tree.put("config/zzz/k", "1")
    running = daemon(source=tree.source, config=preload(["aaa", "zzz"], place))
    running.wait_state("zzz", "live")
    page = Page(browser, place)
    assert [row[0] for row in page.rows()] == ["aaa", "zzz"]
    os.unlink(tree.path("config/zzz/k"))
    tree.path("config/zzz/k").symlink_to("nowhere")
    wait_until(lambda: [row[0] for row in page.rows()] == ["zzz", "aaa"], 20, "the problem to come first")
    page.find("#problems").click()
    assert [row[0] for row in page.rows()] == ["zzz"]
    page.find("td.name button").click()
    assert "error" in page.find("tr.detail").text and "nowhere" in page.find("tr.detail").text


def test_a_thousand_services_are_found_by_a_part_of_their_name(daemon, tree, browser, place):
    names = [f"svc-{number:04}" for number in range(1000)]
    daemon(source=tree.source, config=preload(names, place), log_level="info")
    page = Page(browser, place)
    wait_until(lambda: "1000 of 1000" in page.find("#counts").text, 20, "all services")
    assert len(page.rows()) == 100
    page.find("#filter").send_keys("SVC-077")
    assert [row[0] for row in page.rows()] == [f"svc-077{digit}" for digit in range(10)]


# Types a text, as input events; the longest that one took, with its layout.
TYPE = """
const field = document.querySelector("#filter"), text = arguments[0];
let slowest = 0;
for (let n = 0; n <= text.length; n++) {
    const began = performance.now();
    field.value = text.slice(0, n);
    field.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    slowest = Math.max(slowest, performance.now() - began);
}
return slowest;
"""


@pytest.mark.long
@pytest.mark.timeout(180)
def test_ten_thousand_services_are_usable(daemon, tree, browser, place):
    """Problems first, a bounded number of rows and how many there are more; typing is answered at once."""
    names = [f"service-number-{number:05}" for number in range(10000)]
    tree.put("config/common/a", "1")
    tree.put("config/broken/a", "1")
    running = daemon(source=tree.source, log_level="info",
                     config=f"[service {names[7777]}]\nlayers=config/broken/\nbackup=no\n"
                            f"[service *]\nlayers=config/common/\nbackup=no\n[admin]\nlisten={place}\n")
    with contextlib.ExitStack() as clients:
        for start in range(0, len(names), 50):
            clients.enter_context(open_services(running, names[start:start + 50]))
        os.unlink(tree.path("config/broken/a"))
        tree.path("config/broken/a").symlink_to("nowhere")
        running.wait_state(names[7777], "stale")
        page = Page(browser, place)
        wait_until(lambda: page.find("#counts").text == "10000 of 10000, 1 with problems", 30, lambda: page.find("#counts").text)
        assert [row[0] for row in page.rows()] == [names[7777], *names[:99]]
        assert page.find("#rest span").text == "and 9900 more"
        slowest = browser.execute_script(TYPE, "number-0999")
        assert [row[0] for row in page.rows()] == names[9990:]
        browser.execute_script(TYPE, "")
        for _ in range(3):
            page.find("#more").click()
        assert len(page.rows()) == 1000 and page.find("#rest").text == "and 9000 more: give a part of the name"
        page.find("#problems").click()
        assert [row[0] for row in page.rows()] == [names[7777]] and not page.find("#rest").is_displayed()
        assert page.complaints() == []
    print(f"a key is answered after {slowest:.0f} ms at most")
    assert slowest < 200


def test_changes_show_which_keys_and_when_and_no_value(daemon, tree, browser, place):
    evil = "<img src=x onerror=document.title='broken'>"
    tree.put("config/billing/db/url", "postgres://secret")
    tree.put("config/billing/gone", "1")
    running = daemon(source=tree.source, config=preload(["billing", "web"], place))
    running.wait_state("billing", "live")
    page = Page(browser, place)
    assert not page.find("#recent").is_displayed(), "the first contents are no change"
    tree.put("config/billing/db/url", "postgres://other-secret")

    def change():
        return browser.execute_script("return [...document.querySelectorAll('#changes li')].map(item => item.innerText)")
    wait_until(lambda: len(change()) == 1, 10, "the change")
    assert "billing" in change()[0] and "~ db/url" in change()[0]
    assert f"generation {running.service('billing')['generation']}" in change()[0]
    tree.delete("config/billing/gone")
    wait_until(lambda: len(change()) == 2 and "− gone" in change()[0], 10, lambda: change())
    tree.put("config/billing/" + evil.replace("/", ""), "1")
    wait_until(lambda: len(change()) == 3 and f"+ {evil}" in change()[0], 10, lambda: change())
    assert page.find("#last").text.startswith("last change ") and page.find("#last").text.endswith(" ago: billing")
    page.find("#filter").send_keys("web")
    assert not page.find("#recent").is_displayed() and not page.find("#last").is_displayed()
    page.find("#filter").clear()
    wait_until(lambda: len(change()) == 3, 10, "the changes of all services")
    assert browser.execute_script("return document.images.length") == 0 and browser.title == "consulcfgd"
    assert "secret" not in browser.page_source and page.complaints() == []


def test_a_phone_shows_it_without_scrolling_sideways(daemon, tree, browser, place):
    long = "a-service-with-a-name-as-long-as-names-may-be-which-is-64-bytes.x"[:64]
    running = daemon(source=tree.source, config=preload([long, "b"], place))
    running.wait_state(long, "live")
    page = Page(browser, place, width=390)
    page.find("td.name button").click()
    tree.put(f"config/{long}/" + "a-key-that-is-long-" * 8, "1")
    wait_until(lambda: page.find("#recent").is_displayed(), 10, "the change")
    too_wide = browser.execute_script("const w = document.documentElement.clientWidth; return [...document.querySelectorAll('body *')]"
                                      ".filter(e => e.getBoundingClientRect().right > w + 1).map(e => e.outerHTML.slice(0, 80))")
    assert too_wide == []


def test_names_chosen_to_break_the_page_are_text(daemon, tree, browser, place):
    evil = "<img src=x onerror=document.title='broken'>"
    daemon(source=tree.source, config=preload(["billing"], place, f"[service billing]\nlayers={evil.replace(' ', '%')}/\n"))
    page = Page(browser, place)
    page.find("td.name button").click()
    assert "<img" in page.find("tr.detail").text
    assert browser.execute_script("return document.images.length") == 0 and browser.title == "consulcfgd"


def test_a_daemon_that_goes_is_said_so_and_its_return_seen(daemon, tree, browser, place):
    running = daemon(source=tree.source, config=preload(["billing"], place))
    page = Page(browser, place)
    running.process.end()
    wait_until(lambda: "does not answer" in page.find("#trouble").text, 10, "the page to say so")
    assert page.rows()[0][0] == "billing"
    running.start()
    wait_until(lambda: not page.find("#trouble").is_displayed(), 20, "the page to see it again")
