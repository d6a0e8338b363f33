"""The marketer's pages in a real browser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from predictive_scoring.timeline import format_instant
from stored_project import listed, stored_until

pytestmark = pytest.mark.browser


def api(site, path):
    with urllib.request.urlopen(site.root + path, timeout=30) as answer:
        return json.loads(answer.read())


def first(site, **wanted):
    """Id of the best lead with these facts."""
    return next(
        row.lead_id
        for row in listed(site.serving)
        if all(getattr(row, key) == fact for key, fact in wanted.items())
    )


def test_the_list_is_in_ranked_order_and_shows_what_the_interface_answers(visit, site):
    assert visit.go("/") == 200
    assert visit.page.title().startswith("Who to work today")
    expected = api(site, "/v1/leads?limit=50")["leads"]
    assert visit.texts("table.leads .who a") == [row["lead_id"] for row in expected]
    shown = [float(item.get_attribute("value")) for item in visit.all("table.leads data.probability")]
    assert shown == sorted(shown, reverse=True)
    for value, row in zip(shown, expected, strict=True):
        assert abs(value - row["probability"]) <= 1e-12
    assert visit.texts("table.leads td.score data") == [str(row["score"]) for row in expected]
    assert visit.texts("table.leads .grade") == [row["grade"] for row in expected]


def test_the_counts_are_those_of_all_leads(visit, site):
    visit.go("/")
    counts = [int(text.replace(",", "")) for text in visit.texts(".tabs .count")]
    assert counts[0] == sum(counts[1:]) == len(listed(site.serving))


def test_filters_search_and_pages_are_plain_addresses(visit, site):
    visit.go("/")
    visit.page.get_by_role("link", name="To nurture").click()
    visit.page.get_by_label("Stage").select_option("dormant")
    visit.page.get_by_role("button", name="Show").click()
    assert "readiness=nurture" in visit.page.url
    assert "stage=dormant" in visit.page.url
    expected = api(site, "/v1/leads?readiness=nurture&stage=dormant")
    assert visit.texts("table.leads .who a") == [row["lead_id"] for row in expected["leads"]]
    assert f"of {expected['total']:,} leads" in visit.texts(".found")[0]
    visit.page.get_by_role("link", name="All leads").first.click()
    visit.go("/")
    visit.page.get_by_role("link", name="Next →").click()
    second = api(site, "/v1/leads?limit=50&offset=50")["leads"]
    assert visit.texts("table.leads .who a") == [row["lead_id"] for row in second]
    visit.page.get_by_label("Lead id").fill("l-00012")
    visit.page.get_by_role("button", name="Show").click()
    assert visit.texts("table.leads .who a") == ["L-00012"]


def test_odd_parameters_show_what_they_can(visit):
    for query in (
        "page=99999999",
        "page=x",
        "page=-1",
        "page=%C2%B2",
        "readiness=x&stage=y",
        "search=%00%ff%3Cb%3E",
    ):
        assert visit.go(f"/?{query}") == 200
    assert visit.texts(".empty p")[0] == "No lead matches these filters."


def test_a_lead_is_one_click_away_and_adds_up(visit, site):
    visit.go("/")
    visit.page.locator("table.leads .who a").first.click()
    lead_id = first(site, rank=1)
    assert visit.page.url.endswith(f"/leads/{lead_id}")
    assert_tells_the_score(visit, api(site, f"/v1/leads/{lead_id}"))


@pytest.mark.parametrize("stage", ["dormant", "awareness", "consideration"])
def test_a_lead_to_nurture_shows_its_actions_or_why_there_are_none(visit, site, stage):
    lead_id = first(site, readiness="nurture", stage=stage)
    visit.go(f"/leads/{lead_id}")
    score = api(site, f"/v1/leads/{lead_id}")
    assert_tells_the_score(visit, score)
    shown = visit.texts(".actions .name")
    assert len(shown) == len(score["actions"])
    for text, action in zip(shown, score["actions"], strict=True):
        assert action["label"] in text
        assert action["channel"] in text
    card = visit.texts(".next")[0]
    if score["actions"]:
        assert "From the playbook, not yet tested on your leads" in card
        assert all(action["why"] in card for action in score["actions"])
    else:
        assert len(visit.texts(".next .none")[0]) > 10


def assert_tells_the_score(visit, score):
    assert visit.texts("h1") == [score["lead_id"]]
    (probability,) = visit.all("data.probability")
    assert abs(float(probability.get_attribute("value")) - score["probability"]) <= 1e-12
    assert visit.texts("data.score") == [str(score["score"])]
    points = [int(item.get_attribute("data-points")) for item in visit.all("svg.wide-drawing [data-points]")]
    assert sum(points[:-1]) == points[-1] == score["score"]
    printed = [text.replace("−", "-").replace("±", "") for text in visit.drawn("svg.wide-drawing .value")]
    assert [int(text) for text in printed] == points
    reasons = visit.texts(".reasons li")
    assert len(reasons) == len(score["reasons"])
    for text, reason in zip(reasons, score["reasons"], strict=True):
        assert reason["text"] in text
    visit.page.locator("summary").click()
    table = [int(item.get_attribute("data-points")) for item in visit.all(".factors [data-points]")]
    assert table == points


def test_events_are_known_before_the_date_newest_first_and_at_most_thirty(visit, site):
    visit.go(f"/leads/{first(site, rank=1)}")
    moments = [item.get_attribute("datetime") for item in visit.all(".events time")]
    assert 0 < len(moments) <= 30
    assert moments == sorted(moments, reverse=True)
    assert all(moment < format_instant(stored_until(site.serving)) for moment in moments)


@pytest.mark.parametrize(
    ("reason", "words"), [("opted_out", "Opted out"), ("already_converted", "Already converted")]
)
def test_a_lead_without_a_score_says_why_and_shows_no_number(visit, site, reason, words):
    lead_id = first(site, status_reason=reason)
    assert visit.go(f"/leads/{lead_id}") == 200
    assert words in visit.texts(".unscored-lead")[0]
    assert visit.all("data.score, data.probability, .waterfall, .actions") == []
    visit.go(f"/?readiness=unscored&search={lead_id}")
    row = visit.texts("table.leads tbody tr")[0]
    assert words in row
    assert visit.all("table.leads data") == []


def test_an_unknown_lead_is_a_page_that_says_what_to_do(visit):
    assert visit.go("/leads/nobody%2F%3Cscript%3E") == 404
    assert "No lead has this id" in visit.texts("h1")[0]
    # The browser itself notes the status in its console.
    visit.complaints = [text for text in visit.complaints if "404" not in text]
    visit.page.get_by_role("link", name="All leads").click()
    assert visit.page.title().startswith("Who to work today")


def test_the_documentation_page(visit):
    assert visit.go("/docs") == 200
    assert "curl" in visit.texts("pre")[0]
    assert "/v1/score" in visit.texts("main")[0]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_is_wider_than_its_window(visit, site, width):
    visit.page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", f"/leads/{first(site, rank=1)}", "/docs"):
        visit.go(path)
        # Read without scripts: the size of the rendered document.
        assert visit.page.locator("main").bounding_box()["width"] <= width


def test_a_person_says_whether_it_is_a_good_lead(visit, site):
    lead_id = first(site, readiness="nurture")
    visit.go(f"/leads/{lead_id}")
    visit.page.fill("#note", "Asked for a <b>price</b>")
    visit.page.click("text=Bad lead")
    visit.page.wait_for_url("**#feedback")
    assert visit.texts(".feedback [role=status] strong") == ["bad"]
    assert visit.texts(".feedback q") == ["Asked for a <b>price</b>"]
    entries = api(site, f"/v1/leads/{lead_id}/history?limit=1000")["entries"]
    said = next(entry for entry in entries if entry["kind"] == "feedback")
    assert "bad" in json.dumps(said)


def test_a_form_that_is_not_of_the_page_says_nothing(site):
    lead_id = first(site, readiness="ready")
    asked = urllib.request.Request(
        f"{site.root}/leads/{lead_id}/feedback",
        data=b"verdict=good&csrf=made-up",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=30)
    with refused.value as answer:
        assert answer.code == 403
    entries = api(site, f"/v1/leads/{lead_id}/history?limit=1000")["entries"]
    assert not [entry for entry in entries if entry["kind"] == "feedback"]
