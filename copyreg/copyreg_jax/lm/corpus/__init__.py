"""From files to the rows of tokens that training takes."""
