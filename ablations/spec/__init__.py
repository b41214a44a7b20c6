"""This package describes one training or intervention in full: its parts, the readers of each setting, names, titles,
factors and the fingerprint. Studies, plans and files of users are elsewhere.
"""
