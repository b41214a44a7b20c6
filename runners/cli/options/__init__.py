"""The options that verbs share, as frozen objects made once at the door. Options of one verb stand in its file."""
