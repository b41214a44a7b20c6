"""Defines the scripts with which bash, zsh and fish ask for completions, and answers them.

click has scripts of its own. They do not know a word with `=` in bash, where it is three words; they leave a blank
behind `train.epochs=`, and fish's cuts help at its first comma.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

PROGRAM = "run-ablation"
VARIABLE = "_RUN_ABLATION_COMPLETE"
"""The environment variable by which a shell asks: `bash_complete`, `zsh_complete` or `fish_complete`."""

_BASH = """\
%(complete_func)s() {
    local response line
    # Bash breaks words at = and :, so the program gets the whole line, and the word as bash sees it.
    response=$(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORD="$2" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS= read -r line; do
        case "$line" in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${line#plain,}") ;;
        esac
    done <<< "$response"
    # No blank where the word goes on: behind a setting, or a folder.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a plain described open_plain open_described response
    local type key descr
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete ${words[1]} 2>/dev/null)}")
    for type key descr in ${response}; do
        if [[ "$type" == "dir" ]]; then
            _path_files -/
        elif [[ "$type" == "file" ]]; then
            _path_files -f
        elif [[ "$type" == "plain" && "$key" == *[=/] ]]; then
            # No blank where the word goes on: behind a setting, or a folder.
            if [[ "$descr" == "_" ]]; then open_plain+=("$key"); else open_described+=("$key":"$descr"); fi
        elif [[ "$type" == "plain" ]]; then
            if [[ "$descr" == "_" ]]; then plain+=("$key"); else described+=("$key":"$descr"); fi
        fi
    done
    [[ -n "$open_described" ]] && _describe -V unsorted open_described -U -S ''
    [[ -n "$open_plain" ]] && compadd -U -S '' -V unsorted -a open_plain
    [[ -n "$described" ]] && _describe -V unsorted described -U
    [[ -n "$plain" ]] && compadd -U -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    # Loaded from a folder of completions: it is called directly.
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \\
        COMP_CWORD=(commandline -ct) %(prog_name)s 2>/dev/null)
    for completion in $response
        set -l item (string split -m 1 "," -- $completion)
        switch $item[1]
            case dir
                __fish_complete_directories $item[2]
            case file
                __fish_complete_path $item[2]
            case plain
                echo $item[2]
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _WithWords(ShellComplete):
    """Hands the words of the command so far to what completes it, as `obj` of the context."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what may come next."""
        self.ctx_args = {"obj": args}
        return super().get_completions(args, incomplete)


class _Bash(_WithWords, BashComplete):
    source_template = _BASH

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._lead, self._is_quoted = "", False

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words in front of the one to be completed, and that one."""
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(line)
        incomplete = ""
        self._is_quoted = _ends_within_quotes(line)
        if self._is_quoted or not line[-1:].isspace():
            incomplete = words.pop() if words else ""
        # What bash replaces is the word as it sees it, so that all in front of it stays.
        replaced = re.sub(r"\\(.)", r"\1", os.environ.get("COMP_WORD", "")).lstrip("'\"")
        if incomplete.endswith(replaced):
            self._lead = incomplete[: len(incomplete) - len(replaced)]
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line of the answer: a type and a value, as bash puts it into the command."""
        value = str(item.value).removeprefix(self._lead)
        if not self._is_quoted:
            value = re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)
        return f"{item.type},{value}"


class _Zsh(_WithWords, ZshComplete):
    source_template = _ZSH


class _Fish(_WithWords, FishComplete):
    source_template = _FISH


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def script(shell: str, group: click.Command) -> str:
    """Return the script that makes a shell complete commands of the installed program."""
    # Not the method of click's own class for bash, which starts bash to learn its version.
    return ShellComplete.source(SHELLS[shell](group, {}, PROGRAM, VARIABLE))


def answer(group: click.Command) -> None:
    """Print the completions that a shell asks for; nothing where the command so far cannot be understood."""
    shell, _, instruction = os.environ[VARIABLE].partition("_")
    if shell not in SHELLS or instruction != "complete":
        return
    # An error in the middle of a line that somebody types is no news to them.
    with suppress(Exception):
        lines = SHELLS[shell](group, {}, PROGRAM, VARIABLE).complete()
        if lines:
            click.echo(lines)


def _ends_within_quotes(line: str) -> bool:
    quote = ""
    for character in line:
        if quote:
            if character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
    return bool(quote)
