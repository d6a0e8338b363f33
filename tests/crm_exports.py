"""Exports of CRM products as their tools write them, made from a seed: leads that convert because of what they do."""

from pathlib import Path

import numpy as np
import pandas as pd

START = pd.Timestamp("2025-01-01", tz="UTC")
DAYS = 400
TITLES = ["VP of Marketing", "Head of Sales", "Software Engineer", "Marketing Manager", "CEO", "Account Executive",
          "Chief Financial Officer", "HR Specialist", "Director of Operations", "Intern"]  # fmt: skip
SENIOR = {"VP of Marketing", "Head of Sales", "CEO", "Chief Financial Officer", "Director of Operations"}
MAIL = ["ann@gmail.com", "bo@acme.com", "cy@initech.io", "di@yahoo.com"]


def stamp(times: pd.Series) -> pd.Series:
    return times.dt.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def salesforce(folder: Path, leads: int = 600, seed: int = 11) -> pd.DataFrame:
    """Writes Lead, Task, Event, CampaignMember, Campaign, Opportunity and LeadHistory; the true leads."""
    rng = np.random.default_rng(seed)
    at = pd.Series(START + pd.to_timedelta(np.sort(rng.uniform(0, DAYS - 40, leads)), unit="D")).dt.floor("s")
    title = rng.choice(TITLES, leads)
    calls = rng.poisson(np.where(np.isin(title, list(SENIOR)), 2.5, 0.8))
    converts = rng.random(leads) < 1 / (1 + np.exp(3.6 - 0.9 * calls))
    gone = rng.random(leads) < 0.02
    ids = pd.Series([f"00Q{n:012d}AAC" for n in range(leads)])
    contacts = pd.Series([f"003{n:012d}AAC" for n in range(leads)])
    converted_at = at + pd.to_timedelta(12 + rng.exponential(50, leads), unit="D")
    converts &= (converted_at < START + pd.Timedelta(days=DAYS)).to_numpy()
    lead = pd.DataFrame(
        {
            "Id": ids,
            "IsDeleted": gone,
            "MasterRecordId": None,
            "FirstName": [f"First{n % 17}" for n in range(leads)],
            "LastName": [f"Last{n}" for n in range(leads)],
            "Email": rng.choice(MAIL, leads),
            "Title": title,
            "Company": [f"Company {n}" for n in range(leads)],
            "Industry": rng.choice(["Retail", "Banking", "Energy"], leads),
            "NumberOfEmployees": rng.integers(5, 5000, leads),
            "Country": rng.choice(["Germany", "USA", "United States", "DE", "France"], leads),
            "LeadSource": rng.choice(["Web", "Referral", "Trade Show"], leads),
            "Status": np.where(converts, "Qualified", "Open - Not Contacted"),
            "Rating": rng.choice(["Hot", "Cold"], leads),
            "OwnerId": "005000000000001AAA",
            "HasOptedOutOfEmail": rng.random(leads) < 0.1,
            "IsConverted": converts,
            "ConvertedDate": converted_at.dt.strftime("%Y-%m-%d").where(converts),
            "ConvertedContactId": contacts.where(converts),
            "ConvertedOpportunityId": pd.Series([f"006{n:012d}AAC" for n in range(leads)]).where(converts),
            "CreatedDate": stamp(at),
            "LastActivityDate": converted_at.dt.strftime("%Y-%m-%d"),
            # Typed in by sales when the deal is as good as done.
            "Budget_Confirmed__c": np.where(converts & (rng.random(leads) < 0.95), "yes", "no"),
        }
    )
    who = np.repeat(np.arange(leads), calls)
    called = at.iloc[who].reset_index(drop=True) + pd.to_timedelta(rng.uniform(0.1, 11, len(who)), unit="D")
    task = pd.DataFrame(
        {
            "Id": [f"00T{n:012d}AAC" for n in range(len(who))],
            # Salesforce moves the activities of a converted lead to its contact.
            "WhoId": np.where(converts[who], contacts[who], ids[who].str[:15]),
            "Subject": "Call",
            "TaskSubtype": np.where(rng.random(len(who)) < 0.8, "Call", "Email"),
            "Status": np.where(rng.random(len(who)) < 0.95, "Completed", "Not Started"),
            "ActivityDate": called.dt.strftime("%Y-%m-%d"),
            "CompletedDateTime": stamp(called),
            "CallDurationInSeconds": rng.integers(20, 900, len(who)),
            "IsDeleted": False,
            "CreatedDate": stamp(called),
        }
    )
    met = np.flatnonzero(rng.random(leads) < 0.2)
    event = pd.DataFrame(
        {
            "Id": [f"00U{n:012d}AAC" for n in range(len(met))],
            "WhoId": ids[met].to_numpy(),
            "Subject": "Meeting",
            "StartDateTime": stamp(
                at.iloc[met] + pd.to_timedelta(rng.uniform(1, 60, len(met)), unit="D")
            ).to_numpy(),
            "DurationInMinutes": 30,
            "IsDeleted": "false",
        }
    )
    came = np.flatnonzero(rng.random(leads) < 0.3)
    member = pd.DataFrame(
        {
            "Id": [f"00v{n:012d}AAC" for n in range(len(came))],
            "CampaignId": np.where(came % 2, "701000000000001AAC", "701000000000002AAC"),
            "LeadId": ids[came].to_numpy(),
            "ContactId": None,
            "Status": "Responded",
            "HasResponded": True,
            "FirstRespondedDate": (at.iloc[came] + pd.to_timedelta(rng.uniform(1, 60, len(came)), unit="D"))
            .dt.strftime("%Y-%m-%d")
            .to_numpy(),
        }
    )
    campaign = pd.DataFrame(
        {"Id": ["701000000000001AAC", "701000000000002AAC"], "Name": ["Summer", "Basics"],
         "Type": ["Webinar", "Advertisement"], "IsActive": True}
    )  # fmt: skip
    # A third moved up after creation: the title in Lead.csv is today's.
    moved = np.flatnonzero(rng.random(leads) < 0.3)
    history = pd.DataFrame(
        {
            "Id": [f"017{n:012d}AAC" for n in range(len(moved))],
            "IsDeleted": False,
            "LeadId": ids[moved].to_numpy(),
            "CreatedDate": stamp(at.iloc[moved] + pd.Timedelta(days=20)).to_numpy(),
            "Field": "Title",
            "OldValue": "Intern",
            "NewValue": title[moved],
        }
    )
    status = history.assign(
        Field="Status", OldValue="Open", NewValue="Qualified", Id="018" + history["Id"].str[3:]
    )
    opportunity = pd.DataFrame(
        {"Id": lead["ConvertedOpportunityId"].dropna(), "StageName": "Closed Won", "IsWon": True, "IsClosed": True,
         "CloseDate": (converted_at + pd.Timedelta(days=10)).dt.strftime("%Y-%m-%d")[converts]}
    )  # fmt: skip
    tables = {"Lead": lead, "Task": task, "Event": event, "CampaignMember": member, "Campaign": campaign,
              "LeadHistory": pd.concat([history, status]), "Opportunity": opportunity}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return lead


def hubspot(folder: Path, leads: int = 600, seed: int = 12) -> pd.DataFrame:
    """Writes HubSpot's tables as a warehouse connector does; the true contacts, merged and deleted ones included."""
    rng = np.random.default_rng(seed)
    at = pd.Series(START + pd.to_timedelta(np.sort(rng.uniform(0, DAYS - 40, leads)), unit="D")).dt.floor("s")
    ids = pd.Series(np.arange(leads) + 500_001)
    opens = rng.poisson(3, leads)
    clicks = rng.poisson(np.where(rng.random(leads) < 0.4, 2.5, 0.3))
    converts = rng.random(leads) < 1 / (1 + np.exp(3.6 - 0.8 * clicks))
    won_at = at + pd.to_timedelta(15 + rng.exponential(50, leads), unit="D")
    converts &= (won_at < START + pd.Timedelta(days=DAYS)).to_numpy()
    # Contact 3 took over contact 1, which keeps its rows elsewhere.
    merged = pd.Series([None] * leads, dtype=object)
    merged[3] = str(ids[1])
    contact = pd.DataFrame(
        {
            "id": ids,
            "_fivetran_deleted": np.where(np.arange(leads) == 5, "TRUE", "FALSE"),
            "property_email": [f"person{n}@{'gmail.com' if n % 4 else 'acme.com'}" for n in range(leads)],
            "property_firstname": "Ann",
            "property_jobtitle": rng.choice(TITLES, leads),
            "property_country": rng.choice(["Germany", "USA", "France"], leads),
            "property_hs_analytics_source": rng.choice(["ORGANIC_SEARCH", "PAID_SOCIAL", "OFFLINE"], leads),
            "property_lifecyclestage": np.where(converts, "customer", "lead"),
            "property_hs_email_optout": rng.random(leads) < 0.05,
            "property_num_associated_deals": converts.astype(int),
            "property_createdate": at.dt.strftime("%Y-%m-%d %H:%M:%S"),
            "property_hs_merged_object_ids": merged,
        }
    )
    who = np.concatenate([np.repeat(np.arange(leads), count) for count in (opens, clicks, np.full(leads, 4))])
    kind = np.repeat(["OPEN", "CLICK", "DELIVERED"], [opens.sum(), clicks.sum(), 4 * leads])
    mailed = at.iloc[who].reset_index(drop=True) + pd.to_timedelta(rng.uniform(0.1, 14, len(who)), unit="D")
    email_event = pd.DataFrame(
        {
            "id": [f"e{n}" for n in range(len(who))],
            "type": kind,
            "recipient": contact["property_email"].str.upper().to_numpy()[who],
            "created": mailed.dt.strftime("%Y-%m-%d %H:%M:%S.%f").str[:-3],
            "filtered_event": (kind == "OPEN") & (rng.random(len(who)) < 0.3),
        }
    )
    email_event.loc[len(email_event)] = ["lost", "OPEN", "nobody@nowhere.org", "2025-03-01 00:00:00", False]
    form = pd.DataFrame(
        {
            "timestamp": (at + pd.Timedelta(days=1)).dt.strftime("%Y-%m-%d %H:%M:%S")[::4],
            "form_id": 1,
            "contact_id": ids[::4],
            "conversion_id": range(len(ids[::4])),
            "title": ["Request a demo", "Newsletter"] * (len(ids[::4]) // 2)
            + ["Newsletter"] * (len(ids[::4]) % 2),
        }
    )
    history = pd.concat(
        [
            pd.DataFrame({"contact_id": ids, "name": "jobtitle", "value": "Intern", "timestamp": at}),
            pd.DataFrame(
                {"contact_id": ids, "name": "jobtitle", "value": contact["property_jobtitle"],
                 "timestamp": at + pd.Timedelta(days=30)}
            ),
            pd.DataFrame({"contact_id": ids, "name": "email", "value": contact["property_email"], "timestamp": at}),
            pd.DataFrame(
                {"contact_id": ids, "name": "lifecyclestage", "value": "customer", "timestamp": won_at}
            )[converts],
        ]
    )  # fmt: skip
    history["timestamp"] = history["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S")
    deals = pd.DataFrame({"deal_id": ids[converts] + 10_000_000, "is_deleted": "false",
                          "deal_pipeline_stage_id": "closedwon",
                          "property_createdate": won_at[converts].dt.strftime("%Y-%m-%d %H:%M:%S"),
                          "property_closedate": won_at[converts].dt.strftime("%Y-%m-%d %H:%M:%S")})  # fmt: skip
    stages = pd.DataFrame(
        {"stage_id": ["closedwon", "new"], "closed_won": [True, False], "pipeline_id": "default"}
    )
    tables = {"contact": contact, "email_event": email_event, "contact_form_submission": form, "deal": deals,
              "contact_property_history": history, "deal_pipeline_stage": stages,
              "deal_contact": pd.DataFrame({"contact_id": ids[converts], "deal_id": deals["deal_id"]})}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return contact.assign(at=at, won=converts, won_at=won_at)
