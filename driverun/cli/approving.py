"""The command that lets code of others run: approve."""

from __future__ import annotations

import click

from driverun.cli.main import App, echo, main, root_option, say


@main.command()
@click.argument("run")
@click.option("--show", is_flag=True, help="Only show what would run.")
@click.option("--code", metavar="SHA", help="Approve this code alone, as --show names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@root_option
@click.pass_obj
def approve(app: App, run: str, show: bool, code: str | None, as_json: bool) -> None:
    """Let RUN be taken up, whose code was changed by somebody who is not trusted.

    Exactly the code that is there now is approved, or that of --code: what anybody makes of it later waits again.
    """
    from driverun.cli import render

    client = app.client()
    review = client.review(run) if show else client.approve(run, code=code)
    if as_json:
        echo(render.json_text({**review.to_json(), "approved": not show}))
    elif show:
        echo(render.review_text(review, terminal=app.is_terminal))
        say(f"To let exactly this run: driverun approve {review.run_id} --code {review.code_sha256[:12]}")
    else:
        echo(review.run_id)
        say(
            f"approved: code {review.code_sha256[:12]}, {len(review.files)} files, by {', '.join(review.authors)}"
        )
    if not client.may_approve():
        say(
            "note: this account is neither the root's owner nor among your trusted_authors: its approval counts with "
            "workers that trust it"
        )
