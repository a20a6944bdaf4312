"""The `flowli` command: the group of all commands, and errors in one line."""

import click

from flowli_core import __version__
from flowli_core._text import escape_controls
from flowli_core.cli._common import exits
from flowli_core.cli._common.operation import with_target
from flowli_core.cli._dashboard.command import dashboard
from flowli_core.cli._init.command import init
from flowli_core.cli._operations.check import check
from flowli_core.cli._operations.doctor import doctor
from flowli_core.cli._operations.history import history
from flowli_core.cli._operations.jobs import enqueue, jobs, run_job
from flowli_core.cli._operations.lanes import lanes
from flowli_core.cli._operations.queues import queues
from flowli_core.cli._operations.relay import relay
from flowli_core.cli._operations.schedules import schedules
from flowli_core.cli._operations.status import status
from flowli_core.cli._worker.command import worker
from flowli_core.errors import FlowliError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100})
@click.version_option(__version__, message="flowli %(version)s")
def flowli() -> None:
    """Run and manage background jobs.

    Start with `flowli init my-service`, which writes a small service. All other commands need the registry of the
    application: give --app module:attribute, or set the variable FLOWLI_APP.

    \b
    flowli worker app.jobs:jobs
    flowli status app.jobs:jobs
    flowli jobs list failed --app app.jobs:jobs
    flowli jobs show --help
    """  # noqa: D301 - click reads the escape


operations: tuple[click.Command, ...] = (
    status,
    history,
    jobs,
    queues,
    lanes,
    schedules,
    enqueue,
    run_job,
    check,
    doctor,
    dashboard,
    relay,
)
"""The commands that open a registry, do one thing and exit."""

flowli.add_command(init)
flowli.add_command(worker)
for _operation in operations:
    flowli.add_command(with_target(_operation))


def main(argv: list[str] | None = None) -> int:
    """Run the command line, and return its exit code: see `_common/exits.py`."""
    try:
        code = flowli.main(argv, prog_name="flowli", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return exits.USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = "flowli" if context is None else context.command_path
        return _print_error(f"{command}: {error.format_message()}", error.exit_code)
    except FlowliError as error:
        return _print_error(f"flowli: {error}", exits.FAILED)
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    return code if isinstance(code, int) else exits.DONE


def _print_error(message: str, code: int) -> int:
    click.echo(escape_controls(message), err=True)
    return code
