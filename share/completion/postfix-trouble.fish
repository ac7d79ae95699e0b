# fish completion for postfix-trouble: what click offers, from the commands' own options.
_POSTFIX_TROUBLE_COMPLETE=fish_source postfix-trouble | source
