"""The command line: the group of verbs, and the errors of all of them told as sentences."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from ablations.errors import AblationError, UnknownNameError
from ablations.visible import visible


class Verbs(click.Group):
    """Verbs in the order of their definition, with the nearest one named on a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs in the order in which a user needs them."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the verb, or explains that there is none."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            raise UnknownNameError("verb", cmd_name, self.commands)
        return found


def run_guarded(action: Callable[[], Any]) -> None:
    """Runs `action`, turning the errors of this project and of click into a message and an exit code.

    Ctrl-C is left to the caller.
    """
    try:
        action()
    except AblationError as error:
        click.echo(f"error: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(visible(said.getvalue()), err=True, nl=False)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: {visible(str(error))}", err=True)
        sys.exit(1)
    except MemoryError:
        click.echo("error: there is not enough memory. Free some, or raise the limit (ulimit -v).", err=True)
        sys.exit(1)
