"""All commands, in the order `overspill --help` shows them."""

import typer

from overspill.cli import about, artifacts, clusters, identity, jobs, logs, platform, specs, submitting, tenants

app = typer.Typer(
    name="overspill",
    help="CI builds on the machines you own; the surge spills to serverless.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (platform.up, submitting.run, submitting.submit, jobs.jobs, jobs.show, logs.logs, logs.events,
              artifacts.artifacts, jobs.cancel, jobs.delete, jobs.why, platform.status,
              platform.dlq, specs.validate, specs.schema, about.completion, about.version):  # fmt: skip
    app.command()(group)
app.add_typer(clusters.clusters, name="clusters")
app.add_typer(tenants.tenant, name="tenant")
app.add_typer(identity.identity, name="identity")
