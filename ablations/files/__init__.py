"""This package reads studies from YAML files, so that errors name the line, and writes the schema for an editor.

Studies themselves are defined in `ablations.study`.
"""
