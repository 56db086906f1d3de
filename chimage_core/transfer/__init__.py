"""Images between what others have and what we have: registries, archives, directories."""
