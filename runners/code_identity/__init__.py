"""This package digests a plug-in's code: a registered callable and all that it reaches in the user's own modules.

`runners.plugins` makes the digests part of fingerprints, so a change of the code makes its results stale.

Statements at the top of a module are the unit. What is registered reaches the statements that define it; these reach
the statements that bind the names they mention, in their own module and in those they import from, and so on. A
statement that acts when the module is imported (a call, an assignment to a part of something) is always reached, as it
may change what the others do. Statements count by their meaning: comments, layout and docstrings do not.

Values are added where code alone does not tell them: what a closure holds, arguments of a `functools.partial`, and
constants that are computed when the module is imported. Own modules are those of the user: not the standard library,
not what is installed (unless the plug-in itself is), not this project.

`walk` goes from statement to statement and to values, `modules` reads the user's modules, `syntax` reads syntax trees,
and `library_names` names what is not the user's.
"""

from runners.code_identity.walk import plugin_digest

__all__ = ["plugin_digest"]
