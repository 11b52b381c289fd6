"""``unet-ray completion``: a script by which a shell completes command lines, made of the parsers of the commands."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from unet_ray.commands.command import Command, Parser
from unet_ray.config_file import option_fields, sections

# Bash cuts words at "=" too. What no words are known of is completed as the name of a file.
_BASH = """\
_unet_ray() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"
    local at=1 flags="" words=""
    [[ $before == "=" ]] && before="${COMP_WORDS[COMP_CWORD-2]}"
    [[ $word == "=" ]] && word=""
    (( COMP_CWORD == 1 )) && command=""
    if [[ $command == submit ]]; then
        while (( ++at < COMP_CWORD )); do
            case "${COMP_WORDS[at]}" in STAGES) command="${COMP_WORDS[at]}"; break ;; esac
        done
    fi
    case "$command" in
CASES
    esac
    [[ $word == -* ]] && words="$flags"
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o bashdefault -o default -F _unet_ray unet-ray
"""
_ZSH = """\
#compdef unet-ray
(( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit -i }
autoload -Uz bashcompinit && bashcompinit
"""


def _arguments(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help='which; eval "$(unet-ray completion bash)" in ~/.bashrc')


def _work(options: Namespace) -> str:
    from unet_ray.commands import COMMANDS
    from unet_ray.commands.stages import STAGES

    top = Parser(prog="unet-ray")
    top.add_argument("--version", action="version")
    top.add_argument("command", choices=[*COMMANDS])
    values = {key: _choices(item.type) for key, item in option_fields()}
    values["help"] = [*(name for name, _ in sections()), "all"]
    stages = "|".join(STAGES)
    cases = [_case('""', top, {}), _case(stages, STAGES["train"].parser(), values)]
    cases += [_case(name, command.parser(), {}) for name, command in COMMANDS.items() if name not in STAGES]
    script = _BASH.replace("STAGES", stages).replace("CASES", "\n".join(cases))
    return script if options.shell == "bash" else _ZSH + script


def _case(names: str, parser: Parser, values: Mapping[str, Sequence[str]]) -> str:
    """Return the branch of a command: its flags, and the words that fit behind those of them that take a value."""
    flags: list[str] = []
    words: list[str] = []
    branches: list[str] = []
    for action in sorted(parser._actions, key=lambda action: bool(action.option_strings)):
        known = [str(choice) for choice in action.choices or values.get(action.dest, ())]
        if not action.option_strings:
            words += known
            continue
        flags += action.option_strings
        if action.nargs != 0 and (known or words):
            branches.append(f'{"|".join(action.option_strings)}) words="{" ".join(known)}" ;;')
    lines = [f"{names})", f'    flags="{" ".join(flags)}" words="{" ".join(words)}"']
    if branches:
        lines += ['    case "$before" in', *(f"    {branch}" for branch in branches), "    esac"]
    return "\n".join(f"    {line}" for line in [*lines, "    ;;"])


def _choices(kind: Any) -> list[str]:
    """Return the words that a type names, at any depth."""
    if kind is bool:
        return ["true", "false"]
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    return [word for part in get_args(kind) for word in _choices(part)]


COMPLETION = Command(
    name="completion",
    purpose="a script for a shell out, by which it completes commands, flags and values",
    example="bash",
    arguments=_arguments,
    work=_work,
)
