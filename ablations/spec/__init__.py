"""The resolved description of one training or intervention: its parts, who reads which setting, names, titles, factors
and the fingerprint. Studies, plans and files of users are elsewhere.
"""
