"""Any module at other sizes: by its configuration, by its attributes, or as a traced graph."""
