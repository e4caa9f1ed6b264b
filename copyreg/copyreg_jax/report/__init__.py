"""Pages for a browser, made from the files that a command wrote."""
