"""Completion for bash, zsh and fish: files made once, from the commands' own options.

Static, since a shell that asks the program at each press of a key waits for Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from postfix_trouble.core.value import Value

if TYPE_CHECKING:
    import click

PROGRAM = "postfix-trouble"
# Shell, and the name under which it looks for the file.
SHELLS = {
    "bash": "postfix-trouble",
    "zsh": "_postfix-trouble",
    "fish": "postfix-trouble.fish",
}


class OptionWords(Value):
    """An option of a command."""

    names: tuple[str, ...]
    meaning: str
    # "": no value; "file", "dir", "parameter", "words", "text".
    value: str = ""
    words: tuple[str, ...] = ()
    repeatable: bool = False


class CommandWords(Value):
    """A command."""

    name: str
    meaning: str
    options: tuple[OptionWords, ...]


def commands() -> Iterator[CommandWords]:
    """All commands with their options."""
    import click

    from postfix_trouble.cli.command_group import group
    from postfix_trouble.cli.meant import COMMANDS

    context = click.Context(group, info_name=PROGRAM, **group.context_settings)
    for name, _, meaning in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=context) as inner:
            parameters = command.get_params(inner)
        found = [_option(p) for p in parameters if isinstance(p, click.Option)]
        yield CommandWords(name, meaning, tuple(found))


def _option(parameter: click.Option) -> OptionWords:
    import click

    names = tuple(parameter.opts + parameter.secondary_opts)
    # The first sentence has to do.
    meaning = (parameter.help or "").partition(". ")[0].rstrip(".")
    kind, words = "text", tuple[str, ...]()
    if parameter.is_flag or parameter.count:
        kind = ""
    elif isinstance(parameter.type, click.Choice):
        kind, words = "words", tuple(map(str, parameter.type.choices))
    elif isinstance(parameter.type, click.Path | click.File):
        folder = not getattr(parameter.type, "file_okay", True)
        kind = "dir" if folder else "file"
    elif "-o" in names:
        kind = "parameter"
    return OptionWords(names, meaning, kind, words, parameter.multiple)


def parameters() -> list[str]:
    """The names for -o."""
    from postfix_trouble.config.parameters import TABLE

    return sorted(name for name, row in TABLE.items() if not row.unsupported)


def script(shell: str) -> str:
    """The file for a shell."""
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()
    return "\n".join(lines) + "\n"


# --- bash ---------------------------------------------------------------------------

_BASH_HEAD = """\
# bash completion for postfix-trouble. Made by docs/generate.py.

_postfix_trouble_parameters='%s'

_postfix_trouble()
{
    local cur prev command='' word
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        if [[ $word != -* ]]; then
            command=$word
            break
        fi
    done
    case "$command $prev" in"""


def _bash() -> Iterator[str]:
    yield _BASH_HEAD % " ".join(parameters())
    every = list(commands())
    for command in every:
        for option in command.options:
            cases = "|".join(f'"{command.name} {name}"' for name in option.names)
            if option.value:
                yield f"    {cases})"
                yield f"        {_bash_values(option)}"
                yield "        return ;;"
    yield "    esac"
    yield "    case $command in"
    for command in every:
        names = " ".join(name for option in command.options for name in option.names)
        yield f"    {command.name}) word='{names}' ;;"
    names = " ".join(command.name for command in every)
    yield f"    '') word='{names} --help --version' ;;"
    yield "    *) word='' ;;"
    yield "    esac"
    yield "    if [[ -z $command || $cur == -* ]]; then"
    yield '        mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")'
    yield "    fi"
    yield "}"
    yield ""
    yield f"complete -F _postfix_trouble {PROGRAM}"


def _bash_values(option: OptionWords) -> str:
    if option.value == "words":
        choice = f"-W '{' '.join(option.words)}'"
    elif option.value == "parameter":
        names = '"$_postfix_trouble_parameters"'
        return (
            "compopt -o nospace 2> /dev/null\n        "
            f'mapfile -t COMPREPLY < <(compgen -S = -W {names} -- "$cur")'
        )
    elif option.value in ("file", "dir"):
        letter = "d" if option.value == "dir" else "f"
        return (
            "compopt -o filenames 2> /dev/null\n        "
            f'mapfile -t COMPREPLY < <(compgen -{letter} -- "$cur")'
        )
    else:
        return ":"
    return f'mapfile -t COMPREPLY < <(compgen {choice} -- "$cur")'


# --- zsh ----------------------------------------------------------------------------


def _zsh() -> Iterator[str]:
    yield f"#compdef {PROGRAM}"
    yield "# zsh completion for postfix-trouble. Made by docs/generate.py."
    yield ""
    yield "_postfix_trouble_parameters() {"
    yield "    local -a names"
    yield f"    names=({' '.join(parameters())})"
    yield "    compadd -S = -a names"
    yield "}"
    yield ""
    yield "_postfix-trouble() {"
    yield "    local line state"
    yield "    local -a commands"
    yield "    commands=("
    every = list(commands())
    for command in every:
        yield f"        {_quoted(f'{command.name}:{command.meaning}')}"
    yield "    )"
    yield "    _arguments -C '--help[show help]' '--version[show the version]' \\"
    yield "        '1:command:->command' '*::argument:->argument'"
    yield "    case $state in"
    yield "    command) _describe command commands ;;"
    yield "    argument)"
    yield "        case $line[1] in"
    for command in every:
        yield f"        {command.name})"
        yield "            _arguments \\"
        for option in command.options:
            for name in option.names:
                yield f"                {_zsh_option(option, name)} \\"
        yield "                '*:argument:_files' ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "}"
    yield ""
    yield '_postfix-trouble "$@"'


def _zsh_option(option: OptionWords, name: str) -> str:
    meaning = option.meaning.replace("[", "(").replace("]", ")").replace(":", " -")
    text = f"{'*' if option.repeatable else ''}{name}[{meaning}]"
    actions = {
        "file": "_files",
        "dir": "_files -/",
        "parameter": "_postfix_trouble_parameters",
        "words": f"({' '.join(option.words)})",
        "text": " ",
    }
    if option.value:
        text += f":{option.value}:{actions[option.value]}"
    return _quoted(text)


# --- fish ---------------------------------------------------------------------------


def _fish() -> Iterator[str]:
    yield "# fish completion for postfix-trouble. Made by docs/generate.py."
    every = list(commands())
    names = " ".join(command.name for command in every)
    yield "function __postfix_trouble_parameters"
    yield f"    printf '%s=\\n' {' '.join(parameters())}"
    yield "end"
    none = f"not __fish_seen_subcommand_from {names}"
    yield f"complete -c {PROGRAM} -f"
    for command in every:
        words = _quoted(command.meaning, "\\'")
        yield f"complete -c {PROGRAM} -n '{none}' -a {command.name} -d {words}"
    yield f"complete -c {PROGRAM} -n '{none}' -l version -d 'Show the version'"
    for command in every:
        seen = f"__fish_seen_subcommand_from {command.name}"
        for option in command.options:
            flags = " ".join(_fish_name(name) for name in option.names)
            what = f"{flags} {_fish_values(option)}".rstrip()
            words = _quoted(option.meaning, "\\'")
            yield f"complete -c {PROGRAM} -n '{seen}' {what} -d {words}"


def _fish_name(name: str) -> str:
    return f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"


def _fish_values(option: OptionWords) -> str:
    match option.value:
        case "":
            return ""
        case "file":
            return "-r -F"
        case "dir":
            return "-x -a '(__fish_complete_directories)'"
        case "words":
            return f"-x -a {_quoted(' '.join(option.words))}"
        case "parameter":
            return "-x -a '(__postfix_trouble_parameters)'"
    return "-x"


def _quoted(text: str, quote: str = "'\\''") -> str:
    """A word for a shell; `quote` is how it writes a quote within quotes."""
    return "'" + text.replace("'", quote) + "'"
