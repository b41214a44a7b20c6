"""Defines the verb `completion`, which prints the script that completes commands in a shell."""

from __future__ import annotations

import click

from runners.cli.completion.shells import SHELLS, script


@click.command(
    epilog="""\b
For good, in the file that the shell reads when it starts:
  bash, ~/.bashrc:                   eval "$(run-ablation completion bash)"
  zsh, ~/.zshrc, behind compinit:    eval "$(run-ablation completion zsh)"
  fish:  run-ablation completion fish > ~/.config/fish/completions/run-ablation.fish

\b
Examples:
  run-ablation completion bash
"""
)
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    It completes verbs, options, studies and their rows, presets, settings and their values, for the installed command
    run-ablation.
    """
    click.echo(script(shell, context.find_root().command), nl=False)
