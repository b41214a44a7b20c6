"""This package loads weights of networks that were trained elsewhere, from a file into a network of this package.

`files` reads a file without running code in it, `layouts` holds the names under which projects save their layers,
`public_layouts` those of public projects, `assignment` finds the place of each tensor and all that does not fit,
`loading` puts these together, and `report` says what went where. How a training of this project saves itself is in
`runners`.
"""
