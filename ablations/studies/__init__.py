"""The built-in studies, one file per question. `ablations.registry` finds them by name."""
