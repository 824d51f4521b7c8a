"""The command that logs a person in to Google Drive."""

from __future__ import annotations

from pathlib import Path

import click

from driverun.cli.main import App, echo, main, say


@main.command()
@click.option(
    "--client-file",
    metavar="JSON",
    type=click.Path(path_type=Path),
    help="The OAuth client file of your own Google Cloud project; docs/drive.md tells how to get it.",
)
@click.option("--no-browser", is_flag=True, help="Show the address only, to open it by hand on this machine.")
@click.pass_obj
def login(app: App, client_file: Path | None, no_browser: bool) -> None:
    """Log in to Google Drive on a machine that is not Colab, once."""
    from driverun.assembly import log_in_to_drive

    def show(address: str) -> None:
        say("Open this address in a browser of this machine, and allow access to Drive:")
        say(address)
        if not no_browser:
            click.launch(address)

    done = log_in_to_drive(client_file, app.here, show=show)
    echo(f"logged in; the login is in {done.file}, which nobody else may read")
    say(done.warning)
