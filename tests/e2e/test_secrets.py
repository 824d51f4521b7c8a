"""A job that puts its secrets wherever it can: none of them may be on the root, nor on any screen."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.drives import ROOT, Drive
from tests.e2e.runtimes import clean_environment
from tests.e2e.searching import found_below, found_in

TOKEN = "hf_T0k/en+va\"lue' &?x=ä"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7\n-----END KEY-----\n"
LINES = tuple(KEY.splitlines()[1:3])
OTHER = "value-of-another-job"

SCRIPT = """
import base64, gzip, json, os, pathlib, shutil, sys, urllib.parse, zipfile
import driverun

token, key = os.environ["HF_TOKEN"], os.environ["DEPLOY_KEY"]
assert "OTHER" not in os.environ, "it is another job's"
assert not [name for name in os.environ if name.startswith("DRIVERUN_SECRET")], "they are driverun's own"
for text in (token, key):
    content = text.encode()
    print("value", text)
    print("repr", repr(text), repr(content), json.dumps(text), json.dumps({"token": text}, ensure_ascii=False))
    for before in range(4):
        print("base64", base64.b64encode(b"x" * before + content), base64.urlsafe_b64encode(b"x" * before + content))
    print("mail", base64.encodebytes(content * 3).decode())
    print("url", urllib.parse.quote(text), urllib.parse.quote_plus(text), urllib.parse.urlencode({"token": text}))
    print("hex", content.hex(), content.hex().upper())
    print("colours", "\\033[31m" + text[:5] + "\\033[0m" + text[5:])
    for half in (text[: len(text) // 2], text[len(text) // 2 :]):  # two writes, one text
        sys.stdout.write(half)
        sys.stdout.flush()
    print()
    print("x" * 8180 + text)  # where long lines are cut
os.write(2, b"to stderr " + token[:7].encode())
os.write(2, token[7:].encode() + b"\\n")
if driverun.current_run().attempt == 1:
    raise ValueError("x" * (500 - 15) + f"{token}: cannot log in with {token} and {key}")
pathlib.Path("fine.txt").write_text("nothing to hide")
pathlib.Path("plain.txt").write_text(f"token: {token}")
pathlib.Path("wide.bin").write_bytes(b"...." + token.encode("utf-16-le"))
pathlib.Path("large.bin").write_bytes(b"." * (4 * 1024 * 1024 - 5) + key.splitlines()[1].encode() + b".")
with gzip.open("packed.txt.gz", "wb") as file:
    file.write(urllib.parse.quote(token).encode())
with zipfile.ZipFile("inner.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("a/b.json", json.dumps([token]))
with zipfile.ZipFile("outer.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write("inner.zip")
pathlib.Path("named-" + base64.urlsafe_b64encode(token.encode()).decode()).write_text("by its name")
os.makedirs("many")
for number in range(310):
    pathlib.Path(f"many/{number}.txt").write_text(key if number == 7 else f"{number}")
""".replace("LINE.", f"{LINES[0]!r}.")

NOTEBOOK = [
    "import os\ntoken = os.environ['HF_TOKEN']\nprint('token', token[:6], end=''); print(token[6:])"
    "\nprint(os.environ['DEPLOY_KEY'])",
    "{'token': token}",
    "from IPython.display import HTML\nHTML('<b>' + token + '</b>')",
    "raise ValueError('cannot log in with ' + token)",
]


@dataclass
class Place:
    """A root, and commands on it."""

    address: str
    disk: Path  #: where all of its bytes lie
    environment: dict[str, str]
    shown: bytes = b""  #: all that was printed so far

    def driverun(self, *arguments: str, expect: int | None = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "driverun", "--root", self.address, *arguments],
            capture_output=True,
            env=clean_environment(**self.environment, **environment),
            check=False,
        )
        self.shown += done.stdout + done.stderr
        assert expect in (None, done.returncode), f"{arguments}: {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def work(self, *, expect: int) -> None:
        self.driverun(
            "work",
            expect=expect,
            DRIVERUN_SECRET_HF_TOKEN=TOKEN,
            deploy=KEY,
            OTHER=OTHER,
        )


@pytest.fixture(params=["folder", "drive"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    workdir = {"DRIVERUN_WORKDIR": str(tmp_path / "machine")}
    if request.param == "folder":
        found = Place(str(tmp_path / "root"), tmp_path / "root", workdir)
    else:
        drive: Drive = request.getfixturevalue("drive")
        found = Place(ROOT, tmp_path / "drive", {**drive.environment, **workdir})
    found.driverun("init")
    return found


def script_job(folder: Path) -> str:
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text(
        "entrypoint: train.py\nsecrets: [HF_TOKEN, {name: deploy, as: DEPLOY_KEY}]\n"
    )
    return str(folder)


def other_job(folder: Path) -> str:
    folder.mkdir()
    (folder / "train.py").write_text(
        "import os\nassert os.environ['OTHER'] and 'HF_TOKEN' not in os.environ and 'deploy' not in os.environ\n"
    )
    (folder / "job.yaml").write_text("entrypoint: train.py\nsecrets: [OTHER]\n")
    return str(folder)


def test_no_secret_is_on_the_root_or_on_a_screen(place: Place, tmp_path: Path) -> None:
    run_id = place.driverun("submit", script_job(tmp_path / "job")).strip()
    other = place.driverun("submit", other_job(tmp_path / "other")).strip()
    place.work(expect=1)
    failed = json.loads(place.driverun("status", run_id, "--json"))
    assert failed["state"] == "FAILED"
    assert failed["reason"].startswith("x" * 485 + "***: cannot"), failed["reason"]
    assert TOKEN[:15] not in failed["reason"], "half of it, where the reason is cut"
    assert json.loads(place.driverun("status", other, "--json"))["state"] == "SUCCEEDED"
    place.driverun("retry", run_id)
    place.work(expect=0)

    found = json.loads(place.driverun("status", run_id, "--json"))
    assert (found["state"], found["waiting_for"]) == ("SUCCEEDED", None)
    log = place.driverun("logs", run_id)
    for line in ("value ***", "[driverun] outputs/plain.txt is not published: it holds the secret HF_TOKEN"):
        assert line in log, log
    assert "cannot log in with ***" in log
    page = tmp_path / "fetched" / "page.html"
    page.parent.mkdir()
    place.driverun("report", run_id, "--output", str(page))
    assert "is not published" in page.read_text()
    place.driverun("fetch", run_id, str(tmp_path / "fetched"))
    fetched = {str(file.relative_to(tmp_path / "fetched")) for file in (tmp_path / "fetched").rglob("*.*")}
    assert "outputs/fine.txt" in fetched
    assert "outputs/many/8.txt" in fetched
    withheld = ("plain.txt", "wide.bin", "large.bin", "packed.txt.gz", "inner.zip", "outer.zip", "many/7.txt")
    assert not fetched & {f"outputs/{name}" for name in withheld}
    assert found_below(place.disk, TOKEN, *LINES, OTHER) == []
    assert found_below(tmp_path / "fetched", TOKEN, *LINES) == []
    assert found_in(place.shown, TOKEN, *LINES, OTHER) == []


def test_a_notebook_keeps_its_outputs_and_none_of_its_secrets(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "root"), tmp_path / "root", {"DRIVERUN_WORKDIR": str(tmp_path / "machine")})
    place.driverun("init")
    job = tmp_path / "job"
    job.mkdir()
    for name, cells in (("fails", NOTEBOOK), ("ends", NOTEBOOK[:-1])):
        code: list[dict[str, object]] = [
            {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": cell}
            for cell in cells
        ]
        (job / "train.ipynb").write_text(
            json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        )
        (job / "job.yaml").write_text(
            f"name: {name}\nentrypoint: train.ipynb\nsecrets: [HF_TOKEN, {{name: deploy, as: DEPLOY_KEY}}]\n"
        )
        place.driverun("submit", str(job))
    place.work(expect=1)
    (executed,) = (tmp_path / "root" / "runs").glob("ends*/results/outputs/train.executed.ipynb")
    streams, result, html = (cell["outputs"] for cell in json.loads(executed.read_text())["cells"])
    assert "".join(streams[0]["text"]).startswith("token ***\n")
    assert "***" in str(result[0]["data"])
    assert html[0]["data"]["text/html"] == "<b>***</b>"
    for run in ("fails", "ends"):
        place.driverun("logs", run, expect=None)
    assert found_below(place.disk, TOKEN, *LINES) == []
    assert found_in(place.shown, TOKEN, *LINES) == []


def test_a_secret_that_is_not_there_holds_up_nobody_else(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "root"), tmp_path / "root", {"DRIVERUN_WORKDIR": str(tmp_path / "machine")})
    place.driverun("init")
    run_id = place.driverun("submit", script_job(tmp_path / "job")).strip()
    other = place.driverun("submit", other_job(tmp_path / "other")).strip()
    place.driverun("work", expect=3, DRIVERUN_SECRET_HF_TOKEN="short", deploy=KEY, OTHER=OTHER)
    said = place.shown.decode()
    assert f"{run_id} waits: the secret HF_TOKEN has a value of 5 characters" in said, said
    assert "DRIVERUN_SECRET_HF_TOKEN in the worker's environment" in said
    assert json.loads(place.driverun("status", other, "--json"))["state"] == "SUCCEEDED"
    waits = json.loads(place.driverun("status", run_id, "--json"))
    assert (waits["state"], waits["waiting_for"]) == ("QUEUED", "secret")
    assert "wants the secrets HF_TOKEN, deploy" in waits["reason"]
