"""Builds the group of verbs that is the command line, and turns their errors into messages and exit codes.

`run_ablation.py` calls `main`. Verbs are imported one at a time, when they are asked for: `list` must not pay for the
imports of `run`.
"""

from __future__ import annotations

import ast
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ablations.datasets.registry import forget_folders
from ablations.errors import AblationError, UnknownNameError
from ablations.invocation import find_invocation_by, program
from ablations.visible import visible
from runners.cli.completion.shells import VARIABLE, answer
from runners.cli.farewells import with_farewell
from runners.cli.invocation import present_invocation
from runners.cli.options.groups import INTERRUPTED
from runners.cli.options.verbosity import verbosity_options, with_verbosity
from runners.cli.options.version import print_version
from runners.console.streams import go_on_without_output, steady_streams, writing_its_output
from runners.console.terminal import Verbosity, is_verbose, print_to_errors, set_verbosity
from runners.interrupts import heed_signals, interruptible

find_invocation_by(present_invocation)


class Verbs(click.Group):
    """Verbs in the order of their definition, with the nearest one named on a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which a user needs them."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a verb.

        Raises:
            UnknownNameError: If there is no such verb; the message names the nearest one.
        """
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise UnknownNameError("verb", cmd_name, self.commands)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with the first sentence of their help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, short_help(verb)) for verb in _VERBS])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the verbs that begin with a text, and options, without importing a verb."""
        verbs = [CompletionItem(verb, help=short_help(verb)) for verb in _VERBS if verb.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)


def short_help(verb: str) -> str:
    """Return the first sentence of a verb's help, which fits into a line of 80 columns, from its source."""
    module, name = _VERBS[verb]
    sentence = (_docstring(module, name) or "").partition("\n\n")[0]
    return " ".join(sentence.split()).removesuffix(".")


def _docstring(module: str, name: str) -> str | None:
    """Return the docstring of a command from its source: to import all verbs takes longer than to plan."""
    source = Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return ast.get_docstring(statement)
    return None


def run_guarded(action: Callable[[], Any]) -> None:
    """Run `action`; turn the errors of this project and of click into a message and an exit code.

    `KeyboardInterrupt` passes through: the caller ends a launch in order.
    """
    try:
        action()
    except AblationError as error:
        if is_verbose():
            click.echo(visible(traceback.format_exc()), err=True, nl=False)
        click.echo(f"error: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        # click would print straight to the terminal; its text may quote a name with escape sequences.
        message = io.StringIO()
        error.show(message)
        click.echo(visible(message.getvalue()), err=True, nl=False)
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


_WORKING = frozenset(("run", "retry", "tune", "search", "sync", "report", "verify", "bundle", "compare", "gc"))
"""The verbs that do more than print. They go on when standard output cannot be written."""


_VERBS = {
    "list": ("studies.listing", "list_studies"),
    "plan": ("plan", "plan"),
    "tune": ("tune", "tune"),
    "run": ("run", "run"),
    "status": ("status", "status"),
    "explain": ("explain", "explain"),
    "retry": ("run", "retry"),
    "results": ("results.verb", "results"),
    "report": ("reporting.report", "report"),
    "verify": ("reporting.verify", "verify"),
    "bundle": ("reporting.bundle", "bundle"),
    "compare": ("reporting.compare", "compare"),
    "search": ("tune", "search"),
    "sync": ("upkeep", "sync"),
    "gc": ("upkeep", "gc"),
    "ui": ("upkeep", "ui"),
    "init": ("studies.init", "init"),
    "schema": ("studies.schema", "schema"),
    "completion": ("completion.verb", "completion"),
}
"""Verb → (module under `runners.cli`, name of the command in it), in the order in which a user needs them."""


class _OnDemand(MutableMapping[str, click.Command]):
    """A mapping of verbs to commands that imports a command when it is first looked up.

    Args:
        homes: Verb → the module under `runners.cli` and the name of the command in it.
    """

    def __init__(self, homes: Mapping[str, tuple[str, str]]) -> None:
        self._homes = homes
        self._verbs: dict[str, click.Command] = {}

    def __getitem__(self, verb: str) -> click.Command:
        if verb not in self._verbs:
            module, name = self._homes[verb]
            command = getattr(importlib.import_module(f"runners.cli.{module}"), name)
            self._verbs[verb] = with_verbosity(with_farewell(verb, command))
        return self._verbs[verb]

    def __setitem__(self, verb: str, command: click.Command) -> None:
        self._verbs[verb] = command

    def __delitem__(self, verb: str) -> None:
        del self._verbs[verb]

    def __iter__(self) -> Iterator[str]:
        # In the order in which a user needs them; commands that were set come last.
        return iter(dict.fromkeys([*self._homes, *self._verbs]))

    def __len__(self) -> int:
        return len(dict.fromkeys([*self._homes, *self._verbs]))


@click.group(
    cls=Verbs,
    commands=_OnDemand(_VERBS),
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=print_version,
            help="Print the version, and in a checkout the commit.",
        ),
        *verbosity_options(),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Ablation studies of dynamic convolution: declared as data, tracked in MLflow, told as a paper's tables."""
    # Files of a data set folder may have changed since an earlier command in this process, as in tests.
    forget_folders()
    if context.invoked_subcommand in _WORKING:
        go_on_without_output()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A user's error is printed as a sentence, never as a traceback."""
    # First, so that even the message of an early error can be printed.
    steady_streams()
    if VARIABLE in os.environ:
        answer(cli)
        return
    heed_signals()
    # A process may carry out several commands, as tests do.
    set_verbosity(Verbosity.NORMAL)
    print_to_errors(False)
    # Help calls the program as the user did.
    program_name = " ".join(program())

    def carry_out_verb() -> None:
        writing_its_output(lambda: cli.main(arguments, prog_name=program_name, standalone_mode=False))

    # Outermost, as a signal may arrive within any of the other layers.
    interruptible(lambda: run_guarded(carry_out_verb), INTERRUPTED)
