"""How a dynamic convolution is computed: the algorithms, the cost model that picks one by shape, and compiled code in
`csrc` with torch as its stand-in. Nothing here knows a module or a network.
"""
