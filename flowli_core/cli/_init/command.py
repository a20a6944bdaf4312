"""`flowli init`: write the files of a small service, and print the next commands."""

import shlex
from pathlib import Path

import click

from flowli_core._text import escape_controls
from flowli_core.cli._common.options import choice
from flowli_core.cli._init.files import find_conflicts, make_files, name_of, write_files

_FRAMEWORKS = {"fastapi": "FastAPI", "starlette": "Starlette", "litestar": "Litestar"}

_NEXT = (
    ("pip install -r requirements.txt", "in a virtual environment"),
    ("pytest", "test a route and its job"),
    ("uvicorn app.main:app", "serve it; jobs run in the same process"),
)

_THEN = """\
Then send a request from a second terminal, and see its job in a browser:
  curl localhost:8000/signups -H 'Content-Type: application/json' -d '{"email": "ada@example.com"}'
  flowli dashboard app.jobs:jobs
README.md says how to use Redis and separate workers."""


@click.command()
@click.option("--framework", type=choice(*_FRAMEWORKS), default="fastapi", show_default=True, help="The web framework.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
def init(*, framework: str, folder: Path) -> None:
    """Write a small service with jobs to FOLDER, the current folder by default.

    It has jobs, an application that runs them, tests, requirements and a compose file for Redis. No file is
    overwritten: if one exists, nothing is written.
    """
    shown = escape_controls(folder)
    texts = make_files(framework, name=name_of(folder), framework_name=_FRAMEWORKS[framework])
    conflicts = find_conflicts(folder, texts)
    if conflicts:
        raise click.ClickException(
            f"nothing was written, because {shown} already has {', '.join(conflicts)}: "
            "name a new folder, as in `flowli init my-service`"
        )
    try:
        write_files(folder, texts)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = escape_controls(error.filename or folder)
        raise click.ClickException(f"nothing was written, because {where} cannot be made: {reason}") from error
    click.echo(f"A {_FRAMEWORKS[framework]} service with jobs is in {shown}. Its files:")
    for path in texts:
        click.echo(f"  {path}")
    click.echo("Next:")
    if folder.resolve() != Path.cwd():
        click.echo(f"  cd {escape_controls(shlex.quote(str(folder)))}")
    for command, purpose in _NEXT:
        click.echo(f"  {command:<33}# {purpose}")
    click.echo(_THEN)
