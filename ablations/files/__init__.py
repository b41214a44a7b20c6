"""Studies as YAML files: source text with the line of every key, the study that a file describes, and the schema for
an editor. What a study means is in `ablations.study`.
"""
